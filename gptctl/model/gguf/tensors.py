"""The tensors of a GGUF file: which architecture fits a model, and the names and layout of its tensors.

The names are those of the package gguf. The architecture `llama` of llama.cpp rotates the pairs (i, i + 1) instead of
(i, i + D/2), so rows of its queries and keys are reordered.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from gptctl.model.config import ModelConfig
from gptctl.model.files.lazy_tensor import LazyTensor
from gptctl.model.hf.families import gpt2, llama, mistral, mixtral, qwen2, qwen3, qwen3_moe
from gptctl.model.hf.family_lookup import closest_family
from gptctl.model.hf.family_lookup import unsupported_reason as hf_unsupported_reason
from gptctl.model.hf.family_spec import Family
from gptctl.model.hf.tensors import lazy_hf_tensors, map_modules
from gptctl.model.hf.window_keys import effective_windows
from gptctl.model.rope import plain_frequencies, scaled_frequencies
from gptctl.model.rope_scaling import RopeScaling

LINEAR_ROPE = ("none", "dynamic", "linear", "yarn")  # dynamic changes nothing within the context


class GgufArchitecture(NamedTuple):
    """An architecture of GGUF: its name, the activation that it has built in, and the values of other keys."""

    name: str
    activation: str
    rope_types: tuple[str, ...] = LINEAR_ROPE
    bias_parts: tuple[str, ...] = ()


ARCHITECTURES = {
    gpt2.FAMILY.architecture: GgufArchitecture("gpt2", "gelu_tanh"),
    llama.FAMILY.architecture: GgufArchitecture("llama", "swiglu", (*LINEAR_ROPE, "llama3")),
    mistral.FAMILY.architecture: GgufArchitecture("llama", "swiglu", (*LINEAR_ROPE, "llama3")),
    mixtral.FAMILY.architecture: GgufArchitecture("llama", "swiglu", (*LINEAR_ROPE, "llama3")),
    qwen2.FAMILY.architecture: GgufArchitecture("qwen2", "swiglu", bias_parts=("qkv",)),
    qwen3.FAMILY.architecture: GgufArchitecture("qwen3", "swiglu"),
    qwen3_moe.FAMILY.architecture: GgufArchitecture("qwen3moe", "swiglu"),
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


def gguf_architecture(config: ModelConfig) -> str:
    """Return the architecture of GGUF that computes what a config does; `unsupported_reason` must be empty."""
    return ARCHITECTURES[closest_family(config).architecture].name


def unsupported_reason(config: ModelConfig) -> str:
    """Return why no architecture of GGUF computes what a config does; empty if one does."""
    if reason := hf_unsupported_reason(config):
        return reason
    architecture = closest_family(config).architecture
    if architecture not in ARCHITECTURES:
        return f"GGUF has no architecture for {architecture} that gptctl writes"
    found = ARCHITECTURES[architecture]
    missing = []
    if config.activation != found.activation:
        missing.append(f"activation = {config.activation}")
    if any(effective_windows(config)):
        missing.append(f"sliding_window = {config.sliding_window}")
    if config.positions == "rope" and not computes_rope(config.rope_scaling, found):
        missing.append(f"rope_scaling.rope_type = {config.rope_scaling.rope_type} with these settings")
    if config.experts and not config.norm_topk_prob:
        missing.append("norm_topk_prob = False")
    if missing:
        return f"GGUF's architecture {found.name} has no {', '.join(missing)}"
    parts = [part for part in config.bias_parts if config.has_bias(part) and part not in (*found.bias_parts, "norm")]
    if parts and config.norm == "rmsnorm":
        return f"GGUF's architecture {found.name} is written without biases of {', '.join(parts)}"
    return ""


def computes_rope(scaling: RopeScaling, architecture: GgufArchitecture) -> bool:
    """Return whether llama.cpp scales rotary positions in the same way."""
    is_told = scaling.attention_factor or scaling.mscale or scaling.mscale_all_dim or not scaling.truncate
    return scaling.rope_type in architecture.rope_types and not (scaling.rope_type == "yarn" and is_told)


def gguf_tensors(
    weights: Mapping[str, LazyTensor], config: ModelConfig, family: Family, architecture: str
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
            name = f"{block}{NAMES[module.kind.hf_name]}{hf_name[hf_name.rindex('.') :]}"
            tensor = weights[hf_name]
            if module.kind.transposed and len(tensor.shape) == 2:
                tensor = tensor.map(lambda whole: whole.T, torch.Size(reversed(tensor.shape)))
            if architecture == "llama" and (heads := rotated_heads(module.kind.hf_name, config)):
                tensor = tensor.map(partial(interleave_rope_rows, heads=heads))
            if module.expert is None:
                found[name] = tensor
            else:
                experts.setdefault(name, []).append(tensor)
    if config.rope_scaling.rope_type == "llama3" and config.positions == "rope":
        plain = plain_frequencies(config.rope_theta, config.rotary_dim)
        found["rope_freqs.weight"] = LazyTensor.of(plain / scaled_frequencies(config)[0])
    return found | {name: LazyTensor.stack(parts) for name, parts in experts.items()}


def rotated_heads(hf_name: str, config: ModelConfig) -> int:
    """Return the number of heads of a module whose outputs are rotated, 0 for any other module."""
    return {"self_attn.q_proj": config.heads, "self_attn.k_proj": config.resolved_kv_heads}.get(hf_name, 0)


def interleave_rope_rows(weight: Tensor, heads: int) -> Tensor:
    """Put row i + D/2 of each head after row i, because llama.cpp rotates neighbors."""
    return weight.view(heads, 2, -1, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)
