"""Rotary positions in the config.json of transformers, in both directions. Needs no torch."""

from __future__ import annotations

from typing import Any, get_args

from gptctl.core.config import plain
from gptctl.model.config import ModelConfig
from gptctl.model.hf.family_spec import RopeKeys, Values
from gptctl.model.rope_scaling import USED_BY, RopeType

HF_NAMES = {"original_max_seq_len": "original_max_position_embeddings"}
OPTIONAL = ("attention_factor", "mscale", "mscale_all_dim")  # 0 here, absent there


def read_rope(values: Values, keys: RopeKeys, max_seq_len: int, unsupported: list[str]) -> Values:
    """Return the keys of our config. Settings that gptctl does not compute are added to `unsupported`.

    As in transformers, rope_scaling counts before rope_parameters, and both before the keys beside them.
    """
    told = values.get("rope_scaling") or values.get("rope_parameters") or {}
    theta = told.get("rope_theta") or values.get("rope_theta") or keys.default_theta
    partial = told.get("partial_rotary_factor", values.get("partial_rotary_factor"))
    if partial not in (None, 1):
        unsupported.append(f"partial_rotary_factor = {partial}")
    return {"rope_theta": theta, "rope_scaling": read_scaling(values, told, max_seq_len, unsupported)}


def read_scaling(values: Values, told: Values, max_seq_len: int, unsupported: list[str]) -> Values:
    """Return our table rope_scaling for the rope_parameters of transformers."""
    rope_type = told.get("rope_type") or told.get("type") or "default"
    if rope_type == "default":
        return {"rope_type": "none"}
    if rope_type not in get_args(RopeType):
        unsupported.append(f"rope_type = {rope_type}")
        return {"rope_type": "none"}
    told = told | {"original_max_position_embeddings": original_context(values, told, max_seq_len)}
    if rope_type in ("yarn", "longrope") and not told.get("factor"):
        told["factor"] = max_seq_len / told["original_max_position_embeddings"]
    found: Values = {"rope_type": rope_type}
    for name, types in USED_BY.items():
        value = told.get(HF_NAMES.get(name, name))
        if rope_type in types and value is not None:
            found[name] = value
    return found


def original_context(values: Values, told: Values, max_seq_len: int) -> int:
    """Return the context of pretraining."""
    beside = values.get("original_max_position_embeddings")
    return int(beside or told.get("original_max_position_embeddings") or max_seq_len)


def write_rope(config: ModelConfig) -> Values:
    """Return the keys of config.json."""
    scaling: Values = plain(config.rope_scaling)
    rope: dict[str, Any] = {"rope_type": scaling["rope_type"], "rope_theta": config.rope_theta}
    if rope["rope_type"] == "none":
        rope["rope_type"] = "default"
        return {"rope_theta": config.rope_theta, "rope_parameters": rope}  # the former for transformers 4
    for name, types in USED_BY.items():
        if rope["rope_type"] in types and (scaling[name] or name not in OPTIONAL):
            rope[HF_NAMES.get(name, name)] = scaling[name]
    if "original_max_position_embeddings" in rope:
        rope["original_max_position_embeddings"] = scaling["original_max_seq_len"] or config.max_seq_len
    return {"rope_theta": config.rope_theta, "rope_parameters": rope, "rope_scaling": rope}
