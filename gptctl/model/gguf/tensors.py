"""The tensors of a GGUF file: which architecture fits a model, and the names and layout of its tensors.

The names are those of the package gguf. The architecture `llama` of llama.cpp rotates the pairs (i, i + 1) instead of
(i, i + D/2), so rows of its queries and keys are reordered.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gptctl.model.config import ModelConfig
from gptctl.model.gpt import GPT
from gptctl.model.hf import layernorm_families, rmsnorm_families
from gptctl.model.hf.family_lookup import closest_family
from gptctl.model.hf.family_lookup import unsupported_reason as hf_unsupported_reason
from gptctl.model.hf.family_spec import Family
from gptctl.model.hf.tensors import map_modules, to_hf_tensors

# Each class of transformers, its architecture in GGUF, and the activation that this has built in.
ARCHITECTURES = {
    layernorm_families.GPT2.architecture: ("gpt2", "gelu_tanh"),
    rmsnorm_families.LLAMA.architecture: ("llama", "swiglu"),
    rmsnorm_families.MIXTRAL.architecture: ("llama", "swiglu"),
    rmsnorm_families.QWEN3.architecture: ("qwen3", "swiglu"),
    rmsnorm_families.QWEN3_MOE.architecture: ("qwen3moe", "swiglu"),
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
    return ARCHITECTURES[closest_family(config).architecture][0]


def unsupported_reason(config: ModelConfig) -> str:
    """Return why no architecture of GGUF computes what a config does; empty if one does."""
    if reason := hf_unsupported_reason(config):
        return reason
    architecture = closest_family(config).architecture
    if architecture not in ARCHITECTURES:
        return f"GGUF has no architecture for {architecture}"
    name, activation = ARCHITECTURES[architecture]
    if config.activation != activation:
        return f"GGUF's architecture {name} has no activation = {config.activation}"
    if config.bias and config.norm == "rmsnorm":
        return f"GGUF's architecture {name} is written without biases"
    return ""


def gguf_tensors(model: GPT, family: Family, architecture: str) -> dict[str, Tensor]:
    """Return the tensors under GGUF's names, matrices as (out, in), experts as (E, out, in)."""
    config = model.config
    weights = to_hf_tensors(model.state_dict(), config, family)
    found: dict[str, Tensor] = {}
    experts: dict[str, list[Tensor]] = {}
    for module in map_modules(family, config):
        block = "" if module.layer is None else f"blk.{module.layer}."
        for hf_name, _ in module.tensor_names():
            name = f"{block}{NAMES[module.kind.hf_name]}{hf_name[hf_name.rindex('.') :]}"
            tensor = weights[hf_name]
            tensor = tensor.T if module.kind.transposed and tensor.ndim == 2 else tensor
            if architecture == "llama" and (heads := rotated_heads(module.kind.hf_name, config)):
                tensor = interleave_rope_rows(tensor, heads)
            if module.expert is None:
                found[name] = tensor.contiguous()
            else:
                experts.setdefault(name, []).append(tensor)
    return found | {name: torch.stack(parts) for name, parts in experts.items()}


def rotated_heads(hf_name: str, config: ModelConfig) -> int:
    """Return the number of heads of a module whose outputs are rotated, 0 for any other module."""
    return {"self_attn.q_proj": config.heads, "self_attn.k_proj": config.resolved_kv_heads}.get(hf_name, 0)


def interleave_rope_rows(weight: Tensor, heads: int) -> Tensor:
    """Put row i + D/2 of each head after row i, because llama.cpp rotates neighbors."""
    return weight.view(heads, 2, -1, weight.size(1)).transpose(1, 2).reshape(weight.shape)
