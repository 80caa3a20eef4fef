"""The settings of a class of transformers in the keys of our config. Needs no torch."""

from __future__ import annotations

from gptctl.model.config import ModelConfig
from gptctl.model.hf.config_values import check_values
from gptctl.model.hf.family_spec import Family, Values
from gptctl.model.hf.rope_keys import read_rope
from gptctl.model.hf.window_keys import read_windows

ALL_PARTS = ModelConfig().bias_parts


def convert(values: Values, family: Family, unsupported: list[str]) -> Values:
    """Return the keys of our config for settings of transformers.

    Settings that gptctl does not compute are added to `unsupported`. Raises what wrong values raise.
    """
    values = without_aliases(values, family, unsupported)
    if values.get("is_causal") is False:
        unsupported.append("is_causal = False")
    check_values(values, family)
    ours: Values = {**family.constants, "architecture": family.architecture}
    for key in family.config_keys:
        value = values.get(key.hf_name, key.default)
        ours[key.name] = 0 if value is None and key.zero_is_none else value
    if not ours.get("intermediate_size"):
        ours["intermediate_size"] = (family.intermediate_factor or 4) * ours["hidden_size"]
    if not ours.get("kv_heads"):
        ours["kv_heads"] = ours["heads"]
    ours |= convert_biases(values, family)
    for name, fixed in family.fixed_values.items():
        value = values.get(name, fixed.default)
        if (value or None) != (fixed.value or None):
            unsupported.append(f"{name} = {value}")
    ours["activation"] = convert_activation(values, family, unsupported)
    ours["head_dim"] = convert_head_dim(values, family, ours["hidden_size"] // ours["heads"], unsupported)
    if family.rope:
        ours |= read_rope(values, family.rope, ours["max_seq_len"], unsupported)
    if family.windows:
        ours |= read_windows(values, family.windows, ours["layers"], unsupported)
    if family.read:
        family.read(values, ours, unsupported)
    return ours


def without_aliases(values: Values, family: Family, unsupported: list[str]) -> Values:
    """Return settings under the keys that the class stores. One that differs under two keys is unsupported."""
    for alias, key in family.aliases.items():
        if alias in values and key in values and values[alias] != values[key]:
            unsupported.append(f"{alias} = {values[alias]} beside {key} = {values[key]}")
    return {family.aliases.get(key, key): value for key, value in values.items()}


def convert_biases(values: Values, family: Family) -> Values:
    """Return which parts have biases."""
    parts = {
        part
        for key in family.biases
        for part in key.parts
        if (values.get(key.hf_name, key.default) if key.hf_name else key.default)
    }
    return {"bias": bool(parts), "bias_parts": [part for part in ALL_PARTS if part in parts] or list(ALL_PARTS)}


def convert_activation(values: Values, family: Family, unsupported: list[str]) -> str | None:
    """Return our name of the activation, or None if gptctl does not have it."""
    activation = values.get(family.activation_key, next(iter(family.activations.values())))
    activation = family.aliases.get(activation, activation)
    known = {theirs: ours for ours, theirs in family.activations.items()}
    if activation not in known:
        unsupported.append(f"{family.activation_key} = {activation}")
    return known.get(activation)


def convert_head_dim(values: Values, family: Family, usual: int, unsupported: list[str]) -> int:
    """Return the size of a head, or 0 where it is the usual one, hidden_size / heads."""
    found = values.get("head_dim") or family.default_head_dim or usual
    if found != usual and not family.has_head_dim:
        unsupported.append(f"head_dim = {found}, not hidden_size / num_attention_heads")
    return 0 if found == usual else int(found)
