"""A model's config as the config.json of transformers. Needs no torch."""

from __future__ import annotations

from typing import Any

from gptctl.core.config import plain
from gptctl.model.config import ModelConfig
from gptctl.model.hf.family_lookup import closest_family, hf_ties_head


def to_hf_config(config: ModelConfig, dtype: str = "float32") -> dict[str, Any]:
    """Return the values of config.json that transformers reads."""
    family = closest_family(config)
    ours = plain(config) | {"kv_heads": config.resolved_kv_heads, "tie_embeddings": hf_ties_head(config)}
    values: dict[str, Any] = {"architectures": [family.architecture], "model_type": family.model_type, "dtype": dtype}
    values |= {key.hf_name: ours[key.name] for key in family.config_keys}
    values[family.activation_key] = family.activations[config.activation]
    values |= {key: fixed.value for key, fixed in family.fixed_values.items()}
    if config.positions == "rope":
        values |= {
            "head_dim": config.head_dim,
            "rope_theta": config.rope_theta,  # for transformers 4 and other programs
            "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        }
    if family.layer_types_key:
        layer_types = ["local" if config.layer_window(layer) else "global" for layer in range(config.layers)]
        values |= {"attention_types": [[layer_types, 1]], family.layer_types_key: layer_types}
    end = config.end_of_text if config.end_of_text >= 0 else None
    return values | {"bos_token_id": end, "eos_token_id": end, "use_cache": True}
