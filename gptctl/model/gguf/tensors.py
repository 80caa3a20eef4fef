"""The tensors of a GGUF file: which architecture fits a model, and the names and layout of its tensors.

The names are those of the package gguf. Some architectures of llama.cpp, as `llama`, rotate the pairs (i, i + 1)
instead of (i, i + D/2), so rows of their queries and keys are reordered.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from gptctl.model.config import ModelConfig
from gptctl.model.files.lazy_tensor import LazyTensor
from gptctl.model.hf import families
from gptctl.model.hf.family_lookup import closest_family
from gptctl.model.hf.family_lookup import unsupported_reason as hf_unsupported_reason
from gptctl.model.hf.family_spec import Family
from gptctl.model.hf.tensors import lazy_hf_tensors, map_modules
from gptctl.model.hf.window_keys import effective_windows
from gptctl.model.rope import plain_frequencies, scaled_frequencies, switches_to_long
from gptctl.model.rope_scaling import RopeScaling

LINEAR_ROPE = ("none", "dynamic", "linear", "yarn")  # dynamic changes nothing within the context


class GgufArchitecture(NamedTuple):
    """An architecture of GGUF: its name, the activation that it has built in, and the values of other keys.

    `norms` are names of norms that differ from those in NAMES. `swaps_rows` is about the order of rotated rows.
    `approximates` is an activation that llama.cpp computes by the built-in one: it has only the tanh form of GELU.
    """

    name: str
    activation: str
    rope_types: tuple[str, ...] = LINEAR_ROPE
    bias_parts: tuple[str, ...] = ()
    norms: Mapping[str, str] = {}
    norm_topk_prob: bool = True
    swaps_rows: bool = False
    residuals: tuple[str, ...] = ("sequential",)
    approximates: str = ""
    sliding: tuple[bool, ...] = ()  # which layers have a sliding window, repeated over the layers


OUTPUT_NORMS = {
    "post_attention_layernorm": "post_attention_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
FOUR_NORMS = OUTPUT_NORMS | {"pre_feedforward_layernorm": "ffn_norm"}
ALL_BIASES = ("qkv", "attention_output", "feed_forward")
LLAMA = GgufArchitecture("llama", "swiglu", (*LINEAR_ROPE, "llama3"), bias_parts=ALL_BIASES, swaps_rows=True)
PARALLEL = ("sequential", "parallel")
ARCHITECTURES = {
    families.gpt2.FAMILY.architecture: GgufArchitecture("gpt2", "gelu_tanh", bias_parts=ALL_BIASES),
    families.llama.FAMILY.architecture: LLAMA,
    families.mistral.FAMILY.architecture: LLAMA,
    families.mixtral.FAMILY.architecture: LLAMA,
    families.qwen2.FAMILY.architecture: GgufArchitecture("qwen2", "swiglu", bias_parts=("qkv",)),
    families.qwen2_moe.FAMILY.architecture: GgufArchitecture(
        "qwen2moe", "swiglu", bias_parts=("qkv",), norm_topk_prob=False
    ),
    families.qwen3.FAMILY.architecture: GgufArchitecture("qwen3", "swiglu"),
    families.qwen3_moe.FAMILY.architecture: GgufArchitecture("qwen3moe", "swiglu"),
    families.gemma.FAMILY.architecture: GgufArchitecture("gemma", "geglu_tanh"),
    families.gemma2.FAMILY.architecture: GgufArchitecture(
        "gemma2", "geglu_tanh", norms=FOUR_NORMS, sliding=(True, False)
    ),
    families.gemma3.FAMILY.architecture: GgufArchitecture(
        "gemma3", "geglu_tanh", ("none", "linear"), norms=FOUR_NORMS, sliding=(True,) * 5 + (False,)
    ),
    families.phi3.FAMILY.architecture: GgufArchitecture("phi3", "swiglu", (*LINEAR_ROPE, "longrope")),
    families.olmo2.FAMILY.architecture: GgufArchitecture("olmo2", "swiglu", norms=OUTPUT_NORMS),
    families.olmo.FAMILY.architecture: GgufArchitecture("olmo", "swiglu", swaps_rows=True),
    families.olmo3.FAMILY.architecture: GgufArchitecture(
        "olmo2", "swiglu", norms=OUTPUT_NORMS, sliding=(True, True, True, False)
    ),
    families.arcee.FAMILY.architecture: GgufArchitecture("arcee", "relu2", swaps_rows=True),
    families.gpt_neox.FAMILY.architecture: GgufArchitecture(
        "gptneox", "gelu_tanh", bias_parts=ALL_BIASES, residuals=PARALLEL, approximates="gelu"
    ),
    families.falcon.FAMILY.architecture: GgufArchitecture(
        "falcon", "gelu_tanh", residuals=("parallel", "parallel_shared_norm"), approximates="gelu"
    ),
    families.granite.FAMILY.architecture: GgufArchitecture("granite", "swiglu", swaps_rows=True),
    families.smollm3.FAMILY.architecture: GgufArchitecture("smollm3", "swiglu", swaps_rows=True),
    families.starcoder2.FAMILY.architecture: GgufArchitecture("starcoder2", "gelu_tanh", bias_parts=ALL_BIASES),
    families.stablelm.FAMILY.architecture: GgufArchitecture(
        "stablelm", "swiglu", bias_parts=("qkv",), residuals=(*PARALLEL, "parallel_shared_norm")
    ),
}
GEMMA3_SLIDING_THETA = 10000.0
LARGEST_GEMMA = {"gemma2": 46, "gemma3": 62}  # layers of the 27B models, whose logits are scaled by another size
NO_ROPE_EVERY = 4  # smollm3 has this built in
NAMES = {
    "transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm",
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up",
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp", "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp", "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
    "mlp.gate": "ffn_gate_inp", "block_sparse_moe.gate": "ffn_gate_inp",
    "gpt_neox.embed_in": "token_embd", "gpt_neox.final_layer_norm": "output_norm", "embed_out": "output",
    "attention.query_key_value": "attn_qkv", "attention.dense": "attn_output",
    "mlp.dense_h_to_4h": "ffn_up", "mlp.dense_4h_to_h": "ffn_down",
    "transformer.word_embeddings": "token_embd", "ln_attn": "attn_norm_2", "ln_mlp": "attn_norm",
    "self_attention.query_key_value": "attn_qkv", "self_attention.dense": "attn_output",
    "mlp.experts.{expert}.gate_proj": "ffn_gate_exps", "block_sparse_moe.experts.{expert}.w1": "ffn_gate_exps",
    "mlp.experts.{expert}.up_proj": "ffn_up_exps", "block_sparse_moe.experts.{expert}.w3": "ffn_up_exps",
    "mlp.experts.{expert}.down_proj": "ffn_down_exps", "block_sparse_moe.experts.{expert}.w2": "ffn_down_exps",
}  # fmt: skip


def gguf_architecture(config: ModelConfig) -> GgufArchitecture:
    """Return the architecture of GGUF that computes what a config does; `unsupported_reason` must be empty."""
    return ARCHITECTURES[closest_family(config).architecture]


def approximations(config: ModelConfig) -> list[str]:
    """Return what llama.cpp computes only nearly, or not in every case. `unsupported_reason` must be empty."""
    found = []
    if config.activation == gguf_architecture(config).approximates:
        found.append(
            "llama.cpp computes GELU by its tanh form, so its log-probabilities may differ in the third decimal place"
        )
    if (context := gguf_context(config)) < config.max_seq_len:
        found.append(
            f"llama.cpp has no sliding windows for this model, so the file has a context of {context} tokens, one "
            f"window, instead of {config.max_seq_len}: do not give llama.cpp a longer one"
        )
    elif switches_to_long(config):
        found.append(
            "llama.cpp chooses LongRoPE's frequencies by its --ctx-size, not by the length of a text: for texts of up "
            f"to {config.rope_scaling.original_max_seq_len} tokens give --ctx-size "
            f"{config.rope_scaling.original_max_seq_len}"
        )
    return found


def gguf_context(config: ModelConfig) -> int:
    """Return the context that a file has: one window where llama.cpp has no sliding windows for the architecture."""
    windows = [window for window in effective_windows(config) if window]
    return config.max_seq_len if gguf_architecture(config).sliding else min(windows, default=config.max_seq_len)


def missing_choices(config: ModelConfig, architecture: GgufArchitecture) -> list[str]:
    """List the settings of a config that differ from what single architectures have built in."""
    name, missing = architecture.name, []
    if name in LARGEST_GEMMA:
        is_largest = config.layers == LARGEST_GEMMA[name]
        size = config.hidden_size / config.heads if is_largest else config.resolved_head_dim
        if abs(config.resolved_attention_multiplier**2 * size - 1) > 1e-6:
            missing.append(f"attention_multiplier = {config.attention_multiplier}")
    if name == "gemma2" and not (config.attention_softcap and config.logit_softcap):
        missing.append("attention or logits without a softcap")
    if name == "gemma3" and (config.attention_softcap or config.sliding_rope_theta != GEMMA3_SLIDING_THETA):
        missing.append("attention_softcap, or sliding_rope_theta other than 10000")
    if name == "olmo2" and config.sliding_rope_theta not in (0, None, config.rope_theta):
        missing.append(f"sliding_rope_theta = {config.sliding_rope_theta}")
    if config.residual not in architecture.residuals:
        missing.append(f"residual = {config.residual}")
    if name == "smollm3" and not drops_every_fourth(config):
        missing.append("layers without positions other than every fourth")
    if name in ("starcoder2", "gptneox") and not config.has_bias("qkv"):
        missing.append("layers without biases")
    return missing


def has_windows(config: ModelConfig, sliding: tuple[bool, ...]) -> bool:
    """Return whether the layers with sliding windows are those of an architecture, if it has any."""
    windows = [config.layer_window(layer) for layer in range(config.layers)]
    return not sliding or all(bool(window) == sliding[layer % len(sliding)] for layer, window in enumerate(windows))


def drops_every_fourth(config: ModelConfig) -> bool:
    """Return whether every fourth layer, and no other, has no positions."""
    return all(bool(config.rope_name(layer)) == bool((layer + 1) % NO_ROPE_EVERY) for layer in range(config.layers))


def unsupported_reason(config: ModelConfig) -> str:
    """Return why no architecture of GGUF computes what a config does; empty if one does."""
    if reason := hf_unsupported_reason(config):
        return reason
    architecture = closest_family(config).architecture
    if architecture not in ARCHITECTURES:
        return f"llama.cpp has no architecture for {architecture}"
    found = ARCHITECTURES[architecture]
    missing = []
    if config.activation not in (found.activation, found.approximates):
        missing.append(f"activation = {config.activation}")
    if not has_windows(config, found.sliding):
        missing.append(f"sliding_window = {config.sliding_window} in these layers")
    if config.positions == "rope" and not computes_rope(config.rope_scaling, found):
        missing.append(f"rope_scaling.rope_type = {config.rope_scaling.rope_type} with these settings")
    if config.experts and config.norm_topk_prob != found.norm_topk_prob:
        missing.append(f"norm_topk_prob = {config.norm_topk_prob}")
    missing += missing_choices(config, found)
    if missing:
        return f"GGUF's architecture {found.name} has no {', '.join(missing)}"
    parts = [part for part in config.bias_parts if config.has_bias(part) and part not in (*found.bias_parts, "norm")]
    if parts:
        return f"GGUF's architecture {found.name} is written without biases of {', '.join(parts)}"
    return ""


def computes_rope(scaling: RopeScaling, architecture: GgufArchitecture) -> bool:
    """Return whether llama.cpp scales rotary positions in the same way."""
    is_told = scaling.attention_factor or scaling.mscale or scaling.mscale_all_dim or not scaling.truncate
    return scaling.rope_type in architecture.rope_types and not (scaling.rope_type == "yarn" and is_told)


def gguf_tensors(
    weights: Mapping[str, LazyTensor], config: ModelConfig, family: Family, architecture: GgufArchitecture
) -> dict[str, LazyTensor]:
    """Return weights under GGUF's names, matrices as (out, in), experts as (E, out, in).

    Each is computed when it is read.
    """
    weights = lazy_hf_tensors(weights, config, family)
    found: dict[str, LazyTensor] = {}
    experts: dict[str, list[LazyTensor]] = {}
    for module in map_modules(family, config):
        block = "" if module.layer is None else f"blk.{module.layer}."
        for hf_name, _ in module.tensor_names():
            theirs = architecture.norms.get(module.kind.hf_name) or NAMES[module.kind.hf_name]
            name = f"{block}{theirs}{hf_name[hf_name.rindex('.') :]}"
            tensor = weights[hf_name]
            if module.kind.transposed and len(tensor.shape) == 2:
                tensor = tensor.map(lambda whole: whole.T, torch.Size(reversed(tensor.shape)))
            if module.kind.by_kv_head:
                tensor = tensor.map(partial(separate_qkv_rows, kv_heads=config.resolved_kv_heads, heads=config.heads))
            if architecture.swaps_rows and (heads := rotated_heads(module.kind.hf_name, config)):
                tensor = tensor.map(partial(interleave_rope_rows, heads=heads))
            if config.norm == "rmsnorm_plus_one" and theirs.endswith("norm"):
                tensor = tensor.map(add_one)
            if module.expert is None:
                found[name] = tensor
            else:
                experts.setdefault(name, []).append(tensor)
    if config.rope_scaling.rope_type == "llama3" and config.positions == "rope":
        plain = plain_frequencies(config.rope_theta, config.rotary_dim)
        found["rope_freqs.weight"] = LazyTensor.of(plain / scaled_frequencies(config)[0])
    if config.rope_scaling.rope_type == "longrope" and config.positions == "rope":
        found["rope_factors_long.weight"] = LazyTensor.of(torch.tensor(config.rope_scaling.long_factor))
        found["rope_factors_short.weight"] = LazyTensor.of(torch.tensor(config.rope_scaling.short_factor))
    return found | {name: LazyTensor.stack(parts) for name, parts in experts.items()}


def rotated_heads(hf_name: str, config: ModelConfig) -> int:
    """Return the number of heads of a module whose outputs are rotated, 0 for any other module."""
    return {"self_attn.q_proj": config.heads, "self_attn.k_proj": config.resolved_kv_heads}.get(hf_name, 0)


def interleave_rope_rows(weight: Tensor, heads: int) -> Tensor:
    """Put row i + D/2 of each head after row i, because llama.cpp rotates neighbors."""
    return weight.view(heads, 2, -1, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)


def separate_qkv_rows(weight: Tensor, heads: int, kv_heads: int) -> Tensor:
    """Put the rows of all queries before those of all keys, and these before those of all values."""
    groups = weight.view(kv_heads, heads // kv_heads + 2, -1, *weight.shape[1:])
    parts = groups[:, :-2], groups[:, -2:-1], groups[:, -1:]
    return torch.cat([part.reshape(-1, *weight.shape[1:]) for part in parts])


def add_one(weight: Tensor) -> Tensor:
    """Return what a norm with 1 + weight multiplies by."""
    return 1 + weight
