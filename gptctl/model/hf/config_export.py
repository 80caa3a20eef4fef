"""A model's config as the config.json of transformers. Needs no torch."""

from __future__ import annotations

from typing import Any

from gptctl.core.config import plain
from gptctl.model.config import ModelConfig
from gptctl.model.hf.family_spec import Family
from gptctl.model.hf.rope_keys import write_rope
from gptctl.model.hf.window_keys import write_windows


def to_hf_config(config: ModelConfig, family: Family, dtype: str = "float32") -> dict[str, Any]:
    """Return the values of config.json that transformers reads."""
    values = {"architectures": [family.architecture], "model_type": family.model_type, "dtype": dtype}
    end = config.end_of_text if config.end_of_text >= 0 else None
    ends = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": None, "use_cache": True}
    return values | family_settings(config, family) | ends


def family_settings(config: ModelConfig, family: Family) -> dict[str, Any]:
    """Return the settings of a class that come closest to a config.

    They compute the same if they stand for the same config; see `family_lookup.unsupported_reason`.
    """
    ours = plain(config) | {"kv_heads": config.resolved_kv_heads, "tie_embeddings": ties_head(config, family)}
    values: dict[str, Any] = {
        key.hf_name: ours[key.name] or (None if key.zero_is_none else ours[key.name]) for key in family.config_keys
    }
    values |= {key.hf_name: family.tells_bias(key, config) for key in family.biases if key.hf_name}
    values |= {key: fixed.value for key, fixed in family.fixed_values.items()}
    values[family.activation_key] = family.activations.get(config.activation)
    if family.has_head_dim:
        values["head_dim"] = config.resolved_head_dim
    if family.rope:
        values |= write_rope(config, family.rope)
    if family.windows:
        values |= write_windows(config, family.windows)
    if family.write:
        family.write(config, values)
    return values


def ties_head(config: ModelConfig, family: Family) -> bool:
    """Return whether the embedding of the class is its head, too. It is not if it contains sqrt(hidden_size)."""
    return config.tie_embeddings and not folds_embedding_scale(config, family)


def folds_embedding_scale(config: ModelConfig, family: Family) -> bool:
    """Return whether the embedding of the class must contain our factor sqrt(hidden_size), which it does not have."""
    return config.embedding_scale and not family.constants.get("embedding_scale")
