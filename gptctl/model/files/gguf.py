"""A model as a GGUF file, which llama.cpp and programs on top of it run.

The names of tensors and of metadata are those of the package gguf; rows of rotary queries and keys lie as llama.cpp's
architecture `llama` turns them, pairs (i, i + 1) instead of (i, i + D/2). Norms, biases, positions and routers stay in
float32, as in llama.cpp's own conversions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gptctl.core.errors import MachineError, UsageError
from gptctl.model.config import ModelConfig
from gptctl.model.gpt import GPT
from gptctl.model.hf import config as hf_config
from gptctl.model.hf import layer_norm, rms_norm, tensors
from gptctl.model.hf.family import Family
from gptctl.model.hf.files import token_names
from gptctl.text.tokenization.convert import unicode_to_bytes
from gptctl.text.tokenization.split_patterns import PATTERNS
from gptctl.text.tokenizer import Tokenizer

Type = Literal["float32", "float16", "q8_0"]
# Each class of transformers, its architecture in GGUF, and the activation that is built into that.
ARCHITECTURES = {
    layer_norm.GPT2.architecture: ("gpt2", "gelu_tanh"),
    rms_norm.LLAMA.architecture: ("llama", "swiglu"),
    rms_norm.MIXTRAL.architecture: ("llama", "swiglu"),
    rms_norm.QWEN3.architecture: ("qwen3", "swiglu"),
    rms_norm.QWEN3_MOE.architecture: ("qwen3moe", "swiglu"),
}
NAMES = {
    "transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm",
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp", "block_sparse_moe.gate": "ffn_gate_inp",
    "mlp.experts.{expert}.gate_proj": "ffn_gate_exps", "block_sparse_moe.experts.{expert}.w1": "ffn_gate_exps",
    "mlp.experts.{expert}.up_proj": "ffn_up_exps", "block_sparse_moe.experts.{expert}.w3": "ffn_up_exps",
    "mlp.experts.{expert}.down_proj": "ffn_down_exps", "block_sparse_moe.experts.{expert}.w2": "ffn_down_exps",
}  # fmt: skip
PRECISE = ("position_embd", "ffn_gate_inp")
# How llama.cpp calls the rules that text is cut by.
SINGLE_DIGITS = PATTERNS["modern"].replace(r"\p{N}{1,3}", r"\p{N}")
PRE = {PATTERNS["modern"]: "llama-bpe", PATTERNS["o200k"]: "gpt-4o", SINGLE_DIGITS: "qwen2"}
# llama.cpp opens no file without merges. Of symbols as long as these none is made, so these never meet.
NO_MERGE = "[none] [none]"
HINT = "export it with --format hf"


def refusal(config: ModelConfig) -> str:
    """Say why no architecture of GGUF computes what a config does; empty where one does."""
    if reason := hf_config.refusal(config):
        return reason
    architecture = hf_config.family_of(config).architecture
    if architecture not in ARCHITECTURES:
        return f"GGUF has no architecture for {architecture}"
    name, activation = ARCHITECTURES[architecture]
    if config.activation != activation:
        return f"GGUF's architecture {name} has no activation = {config.activation}"
    if config.bias and config.norm == "rmsnorm":
        return f"GGUF's architecture {name} is written without biases"
    return ""


def write(path: Path, model: GPT, tokenizer_json: str, extra: dict[str, Any], kind: Type = "float32") -> None:
    """Write a model and its tokenizer into one file.

    Raises UsageError (2), before anything is written, where GGUF can't hold them; MachineError (4) without gguf.
    """
    gguf = library()
    config = model.config
    if reason := refusal(config):
        raise UsageError(reason, HINT)
    vocabulary = vocabulary_of(tokenizer_json, config)
    family = hf_config.family_of(config)
    name = ARCHITECTURES[family.architecture][0]
    writer = gguf.GGUFWriter(path, name)
    describe(writer, config, gguf, kind)
    describe_tokenizer(writer, vocabulary, config, extra)
    for tensor_name, tensor in named(model, family, name).items():
        add(writer, gguf, tensor_name, tensor.numpy(), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def library() -> Any:
    """Load the package gguf. Raises MachineError (4) if it is not installed."""
    try:
        import gguf
    except ImportError as error:
        raise MachineError("the package gguf is not installed", "pip install 'gptctl[gguf]'") from error
    return gguf


def describe(writer: Any, config: ModelConfig, gguf: Any, kind: Type) -> None:
    """Write the shape."""
    files = gguf.LlamaFileType
    types = {"float32": files.ALL_F32, "float16": files.MOSTLY_F16, "q8_0": files.MOSTLY_Q8_0}
    writer.add_type("model")
    writer.add_name("gptctl")
    writer.add_file_type(types[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(config.max_seq_len)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.heads)
    writer.add_vocab_size(config.vocab_size)
    if config.norm == "layernorm":
        writer.add_layer_norm_eps(config.norm_eps)
        return
    writer.add_head_count_kv(config.resolved_kv_heads)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    if config.experts:
        writer.add_expert_count(config.experts)
        writer.add_expert_used_count(config.experts_per_token)
        writer.add_expert_feed_forward_length(config.intermediate_size)


def named(model: GPT, family: Family, architecture: str) -> dict[str, Tensor]:
    """Return the tensors under GGUF's names, matrices as (out, in), experts as (E, out, in)."""
    config = model.config
    weights = tensors.to_theirs(model.state_dict(), config, family)
    found: dict[str, Tensor] = {}
    experts: dict[str, list[Tensor]] = {}
    for place in tensors.modules(family, config):
        block = "" if place.layer is None else f"blk.{place.layer}."
        for theirs, _ in place.names():
            name = f"{block}{NAMES[place.kind.theirs]}{theirs[theirs.rindex('.') :]}"
            tensor = weights[theirs]
            tensor = tensor.T if place.kind.transposed and tensor.ndim == 2 else tensor
            if architecture == "llama" and (heads := rotated_heads(place.kind.theirs, config)):
                tensor = interleaved(tensor, heads)
            if place.expert is None:
                found[name] = tensor.contiguous()
            else:
                experts.setdefault(name, []).append(tensor)
    return found | {name: torch.stack(parts) for name, parts in experts.items()}


def rotated_heads(theirs: str, config: ModelConfig) -> int:
    """Return how many heads a module's rows are of, if they get rotated; else 0."""
    return {"self_attn.q_proj": config.heads, "self_attn.k_proj": config.resolved_kv_heads}.get(theirs, 0)


def interleaved(weight: Tensor, heads: int) -> Tensor:
    """Put row i + D/2 of each head behind row i: those are turned together."""
    return weight.view(heads, 2, -1, weight.size(1)).transpose(1, 2).reshape(weight.shape)


def add(writer: Any, gguf: Any, name: str, values: NDArray[np.float32], kind: Type) -> None:
    """Write one tensor in the precision asked for, where its shape and what it is for allow it."""
    types = gguf.GGMLQuantizationType
    wanted = {"float32": types.F32, "float16": types.F16, "q8_0": types.Q8_0}[kind]
    if values.ndim < 2 or any(part in name for part in PRECISE):
        wanted = types.F32
    elif wanted == types.Q8_0 and values.shape[-1] % gguf.GGML_QUANT_SIZES[types.Q8_0][0]:
        wanted = types.F16
    if wanted == types.F32:
        writer.add_tensor(name, values)
    elif wanted == types.F16:
        writer.add_tensor(name, values.astype(np.float16))
    else:
        writer.add_tensor(name, gguf.quants.quantize(values, wanted), raw_dtype=wanted)


def vocabulary_of(tokenizer_json: str, config: ModelConfig) -> dict[str, Any]:
    """Return a tokenizer as GGUF spells it: tokens by id, special ids, merges, and the name of its cutting rules.

    Raises UsageError (2) for a tokenizer that is not byte-level: its tokens must be bytes, or characters of one byte.
    """
    coder = Tokenizer.from_json(tokenizer_json)
    definition = json.loads(tokenizer_json)
    model, names = definition["model"], token_names(tokenizer_json)
    if not (is_byte_level(definition) or (model["type"] == "WordLevel" and coder.lossless)):
        raise UsageError(f"GGUF is written with byte-level tokenizers, not {model['type']} of this kind", HINT)
    if model["type"] == "WordLevel":
        spelt = {byte: symbol for symbol, byte in unicode_to_bytes().items()}
        wide = [name for number, name in names.items() if number not in coder.special_ids and len(name.encode()) > 1]
        if wide:
            raise UsageError(f"GGUF can't hold a token for each character: {wide[0]!r} has several bytes", HINT)
        names = {i: name if i in coder.special_ids else spelt[name.encode()[0]] for i, name in names.items()}
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model.get("merges") or []]
    rules = rules_of(definition) if merges else "gpt-2"
    if max(names) >= config.vocab_size:
        raise UsageError("the tokenizer has more tokens than the model", HINT)
    return {"names": names, "special": coder.special_ids, "merges": merges, "pre": rules, "end": coder.end_of_text_id}


def is_byte_level(definition: dict[str, Any]) -> bool:
    """Return whether a tokenizer is BPE on bytes. llama.cpp does not normalise; of NFC, it leaves that to the text."""
    steps = pre_tokenizers(definition)
    bytewise = [step for step in steps if step.get("type") == "ByteLevel" and not step.get("add_prefix_space")]
    normalizer = (definition.get("normalizer") or {}).get("type", "NFC")
    return definition["model"]["type"] == "BPE" and bool(bytewise) and normalizer == "NFC"


def pre_tokenizers(definition: dict[str, Any]) -> list[dict[str, Any]]:
    """List the steps by which a tokenizer cuts text before merging."""
    first = definition.get("pre_tokenizer") or {}
    steps: list[dict[str, Any]] = first.get("pretokenizers", [first])
    return steps


def rules_of(definition: dict[str, Any]) -> str:
    """Return llama.cpp's name of the rules that text is cut by. Raises UsageError (2) for others."""
    steps = pre_tokenizers(definition)
    patterns = [(step.get("pattern") or {}).get("Regex") for step in steps if step.get("type") == "Split"]
    if not patterns and any(step.get("type") == "ByteLevel" and step.get("use_regex", True) for step in steps):
        return "gpt-2"
    if len(patterns) == 1 and patterns[0] in PRE:
        return PRE[patterns[0]]
    raise UsageError("llama.cpp has no name for the rules by which the tokenizer cuts text", HINT)


def describe_tokenizer(writer: Any, vocabulary: dict[str, Any], config: ModelConfig, extra: dict[str, Any]) -> None:
    """Write the tokenizer; end-of-text stands before each prompt, as before each document in training."""
    from gguf import TokenType

    names, special = vocabulary["names"], vocabulary["special"]
    tokens = [names.get(number, f"[unused {number}]") for number in range(config.vocab_size)]
    types = [
        TokenType.CONTROL if number in special else TokenType.NORMAL if number in names else TokenType.UNUSED
        for number in range(config.vocab_size)
    ]
    stops = extra.get("stop_ids") or [vocabulary["end"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary["pre"])
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(vocabulary["merges"] or [NO_MERGE])
    writer.add_bos_token_id(vocabulary["end"])
    writer.add_eos_token_id(stops[0])
    writer.add_pad_token_id(vocabulary["end"])
    writer.add_add_bos_token(True)
    if extra.get("chat_template"):
        writer.add_chat_template(extra["chat_template"])
