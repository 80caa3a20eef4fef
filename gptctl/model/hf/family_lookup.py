"""The classes of transformers that gptctl reads and writes, and which of them fits a model. Needs no torch.

The tables of families follow transformers 5, src/transformers/models/*/configuration_*.py.
"""

from __future__ import annotations

from gptctl.core.config import plain
from gptctl.model.config import ModelConfig
from gptctl.model.hf import layernorm_families, rmsnorm_families
from gptctl.model.hf.family_spec import Family

FAMILIES = (
    layernorm_families.OPENAI,
    layernorm_families.GPT2,
    layernorm_families.GPT_NEO,
    rmsnorm_families.LLAMA,
    rmsnorm_families.ARCEE,
    rmsnorm_families.QWEN3,
    rmsnorm_families.MIXTRAL,
    rmsnorm_families.QWEN3_MOE,
)


def closest_family(config: ModelConfig) -> Family:
    """Return the class that is closest to a config. `unsupported_reason` says whether it computes the same."""
    if config.norm_position == "post":
        return layernorm_families.OPENAI
    if config.norm == "layernorm":
        return layernorm_families.GPT_NEO if uses_sliding_window(config) else layernorm_families.GPT2
    if config.experts:
        return rmsnorm_families.QWEN3_MOE if config.qk_norm else rmsnorm_families.MIXTRAL
    if config.qk_norm:
        return rmsnorm_families.QWEN3
    return rmsnorm_families.LLAMA if config.activation == "swiglu" else rmsnorm_families.ARCEE


def unsupported_reason(config: ModelConfig) -> str:
    """Return why no class of transformers computes what a config does; empty if one does.

    `to_hf_tensors` checks what depends on the weights: biases that a class does not have.
    """
    family = closest_family(config)
    values = plain(config)
    found = [f"{key} = {values[key]}" for key, allowed in family.supported.items() if values[key] not in allowed]
    if config.activation not in family.activations:
        found.append(f"activation = {config.activation}")
    if uses_sliding_window(config) and not family.layer_types_key:
        found.append(f"layer_pattern = {','.join(config.layer_pattern)}")
    if config.resolved_kv_heads != config.heads and "kv_heads" not in {key.name for key in family.config_keys}:
        found.append(f"kv_heads = {config.kv_heads}")
    factor = family.intermediate_factor
    if factor and config.intermediate_size != factor * config.hidden_size:
        found.append(f"intermediate_size = {config.intermediate_size}, not {factor} * hidden_size")
    return f"{family.architecture} has no {', '.join(found)}" if found else ""


def uses_sliding_window(config: ModelConfig) -> bool:
    """Return whether a layer attends to fewer tokens than the longest sequence has."""
    return any(0 < config.layer_window(layer) < config.max_seq_len for layer in range(config.layers))


def hf_ties_head(config: ModelConfig) -> bool:
    """Return whether the embedding of transformers is its head, too. It is not if it contains sqrt(hidden_size)."""
    return config.tie_embeddings and not config.embedding_scale
