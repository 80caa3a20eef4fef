"""Rotary positions in the config.json of transformers, in both directions. Needs no torch."""

from __future__ import annotations

from typing import Any

from gptctl.core.config import plain
from gptctl.model.config import ModelConfig
from gptctl.model.hf.family_spec import RopeKeys, Values
from gptctl.model.rope_scaling import USED_BY

HF_NAMES = {"original_max_seq_len": "original_max_position_embeddings"}
OPTIONAL = ("attention_factor", "mscale", "mscale_all_dim")  # 0 here, absent there


def read_rope(values: Values, keys: RopeKeys, max_seq_len: int, unsupported: list[str]) -> Values:
    """Return the keys of our config. Settings that gptctl does not compute are added to `unsupported`.

    As in transformers, rope_scaling counts before rope_parameters, and both before the keys beside them.
    """
    if keys.by_layer_type:
        return read_by_layer_type(values, keys, max_seq_len, unsupported)
    told = values.get("rope_scaling") or values.get("rope_parameters") or {}
    if any(isinstance(value, dict) for value in told.values()):
        unsupported.append("rope_parameters by type of layer")
    theta = told.get("rope_theta") or values.get(keys.theta_key) or keys.default_theta
    partial = told.get("partial_rotary_factor")
    if partial is None:
        partial = values.get(keys.partial_key or "partial_rotary_factor", keys.default_partial)
    if partial not in (None, 1) and not keys.partial_key:
        unsupported.append(f"partial_rotary_factor = {partial}")
    scaling = read_scaling(values, told, keys, max_seq_len, unsupported)
    return {"rope_theta": theta, "partial_rotary_factor": partial or 1.0, "rope_scaling": scaling}


def read_by_layer_type(values: Values, keys: RopeKeys, max_seq_len: int, unsupported: list[str]) -> Values:
    """Return the keys of our config for classes whose sliding layers have rotary positions of their own."""
    tables = values.get("rope_parameters") or {}
    full = (tables.get("full_attention") or {}) | (values.get("rope_scaling") or {})
    sliding = tables.get("sliding_attention") or {}
    if (sliding.get("rope_type") or "default") != "default":
        unsupported.append(f"rope_type of sliding_attention = {sliding['rope_type']}")
    theta = full.get("rope_theta") or values.get(keys.theta_key) or keys.default_theta
    own = values.get(keys.sliding_theta_key) or keys.default_sliding_theta
    return {
        "rope_theta": theta,
        "sliding_rope_theta": sliding.get("rope_theta") or own,
        "rope_scaling": read_scaling(values, full, keys, max_seq_len, unsupported),
    }


def read_scaling(values: Values, told: Values, keys: RopeKeys, max_seq_len: int, unsupported: list[str]) -> Values:
    """Return our table rope_scaling for the rope_parameters of transformers."""
    rope_type = told.get("rope_type") or told.get("type") or "default"
    rope_type = keys.aliases.get(rope_type, rope_type)
    if rope_type == "default":
        return {"rope_type": "none"}
    if rope_type not in keys.types:
        unsupported.append(f"rope_type = {rope_type}")
        return {"rope_type": "none"}
    told = told | {"original_max_position_embeddings": original_context(values, told, keys, max_seq_len)}
    if rope_type in ("yarn", "longrope") and not told.get("factor"):
        told["factor"] = max_seq_len / told["original_max_position_embeddings"]
    found: Values = {"rope_type": rope_type}
    for name, types in USED_BY.items():
        value = told.get(HF_NAMES.get(name, name))
        if rope_type in types and value is not None:
            found[name] = value
    return found


def original_context(values: Values, told: Values, keys: RopeKeys, max_seq_len: int) -> int:
    """Return the context of pretraining."""
    beside = values.get("original_max_position_embeddings", keys.default_original)
    return int(beside or told.get("original_max_position_embeddings") or max_seq_len)


def write_rope(config: ModelConfig, keys: RopeKeys) -> Values:
    """Return the keys of config.json. Those beside rope_parameters are for transformers 4 and other programs."""
    rope = rope_parameters(config, keys)
    if keys.by_layer_type:
        sliding = {"rope_type": "default", "rope_theta": config.sliding_rope_theta or config.rope_theta}
        return {"rope_parameters": {"full_attention": rope, "sliding_attention": sliding}}
    found = {keys.theta_key: config.rope_theta, "rope_parameters": rope}
    if keys.partial_key:
        found[keys.partial_key] = config.partial_rotary_factor
    return found if rope["rope_type"] == "default" else found | {"rope_scaling": rope}


def rope_parameters(config: ModelConfig, keys: RopeKeys) -> Values:
    """Return the table rope_parameters of layers that are not sliding."""
    scaling: Values = plain(config.rope_scaling)
    rope: dict[str, Any] = {"rope_type": scaling["rope_type"], "rope_theta": config.rope_theta}
    if keys.partial_key:
        rope["partial_rotary_factor"] = config.partial_rotary_factor
    if rope["rope_type"] == "none":
        return rope | {"rope_type": "default"}
    for name, types in USED_BY.items():
        if rope["rope_type"] in types and (scaling[name] or name not in OPTIONAL):
            rope[HF_NAMES.get(name, name)] = scaling[name]
    if "original_max_position_embeddings" in rope:
        rope["original_max_position_embeddings"] = scaling["original_max_seq_len"] or config.max_seq_len
    return rope
