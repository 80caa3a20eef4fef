"""A model's config from a config.json: in our keys, in those of transformers, or in both. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from gptctl.core.errors import DataError
from gptctl.model.config import ModelConfig
from gptctl.model.hf.config_export import to_hf_config
from gptctl.model.hf.family_lookup import FAMILIES, closest_family
from gptctl.model.hf.family_spec import Family

Values = dict[str, Any]
LAYER_TYPES = {"global": "full", "local": "sliding"}


def read_model_config(values: Values, where: str) -> ModelConfig:
    """Return the model's config from the values of a config.json. `where` names the file in messages.

    Raises DataError (3) if they describe no model that gptctl knows.
    """
    if "model_type" in values:
        return next(candidate_configs(values, where))[1]
    if "gptctl" not in values:
        raise DataError(f"{where} describes no model", "it has no model_type of transformers")
    return validate_config(values["gptctl"], where)


def candidate_configs(values: Values, where: str) -> Iterator[tuple[Family, ModelConfig]]:
    """Yield the configs that a config.json of transformers may stand for, the most specific one first.

    The first one is in our keys, if these still agree with those of transformers: transformers may have changed a
    folder that gptctl wrote. The last one is in the keys of transformers alone. Raises DataError (3) for settings that
    no config of gptctl has.
    """
    family = find_family(values, where)
    imported = from_hf_config(values, family, where)
    if "gptctl" in values:
        ours = validate_config(values["gptctl"], where)
        exported = from_hf_config(to_hf_config(ours), closest_family(ours), where)
        if exported.model_copy(update={"end_of_text": imported.end_of_text}) == imported:
            yield family, ours
    yield family, imported


def find_family(values: Values, where: str) -> Family:
    """Return the class that a config.json names. Raises DataError (3), with those that are known, for any other."""
    architectures = values.get("architectures")
    named = architectures[0] if isinstance(architectures, list) and architectures else None
    for family in FAMILIES:
        if values.get("model_type") == family.model_type and named in (family.architecture, None):
            return family
    raise DataError(
        f"{where} has an unknown architecture: {named or values.get('model_type')}",
        f"known are {', '.join(family.architecture for family in FAMILIES)}",
    )


def from_hf_config(values: Values, family: Family, where: str) -> ModelConfig:
    """Return the config that settings of transformers stand for. Raises DataError (3) if no config of gptctl does."""
    values = {family.aliases.get(key, key): value for key, value in values.items()}
    unsupported: list[str] = []
    try:
        ours = convert(values, family, unsupported) | {"end_of_text": end_of_text(values)}
    except (TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise DataError(f"{where} has a setting of the wrong type: {error}", "copy it again from its source") from error
    if unsupported:
        raise DataError(
            f"{where} has settings that gptctl does not compute: {', '.join(unsupported)}",
            "export a model without them",
        )
    return validate_config(ours, where)


def convert(values: Values, family: Family, unsupported: list[str]) -> Values:
    """Return the keys of our config for settings of transformers.

    Settings that gptctl does not compute are added to `unsupported`. Raises what values of wrong types raise.
    """
    ours: Values = {key: allowed[0] for key, allowed in family.supported.items()}
    ours |= {"layer_pattern": ["full"], "embedding_scale": False, "bias": ours["norm"] == "layernorm"}
    for key in family.config_keys:
        value = values.get(key.hf_name, key.default)
        ours[key.name] = (ours[key.name] or value) if key.name == "bias" else value
    if not ours.get("intermediate_size"):
        ours["intermediate_size"] = 4 * ours["hidden_size"]
    if "kv_heads" in ours and not ours["kv_heads"]:
        ours["kv_heads"] = ours["heads"]
    for name, fixed in family.fixed_values.items():
        value = values.get(name, fixed.default)
        if (value or None) != (fixed.value or None):
            unsupported.append(f"{name} = {value}")
    ours["activation"] = convert_activation(values, family, unsupported)
    if ours["positions"] == "rope":
        ours["rope_theta"] = convert_rope(values, family, ours["hidden_size"] // ours["heads"], unsupported)
    if family.layer_types_key:
        ours["layer_pattern"] = [LAYER_TYPES.get(kind, kind) for kind in layer_types(values, family)]
    return ours


def convert_activation(values: Values, family: Family, unsupported: list[str]) -> str | None:
    """Return our name of the activation, or None if gptctl does not have it."""
    activation = values.get(family.activation_key, next(iter(family.activations.values())))
    activation = family.aliases.get(activation, activation)
    known = {theirs: ours for ours, theirs in family.activations.items()}
    if activation not in known:
        unsupported.append(f"{family.activation_key} = {activation}")
    return known.get(activation)


def convert_rope(values: Values, family: Family, head_dim: int, unsupported: list[str]) -> float:
    """Return the base of the rotary positions, after a check of head size and scaling."""
    found = values.get("head_dim", family.default_head_dim)
    if found not in (None, head_dim):
        unsupported.append(f"head_dim = {found}, not hidden_size / num_attention_heads")
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    rope_type = rope.get("rope_type") or rope.get("type")
    if (rope_type or "default") != "default":
        unsupported.append(f"rope_type = {rope_type}")
    theta: float = rope.get("rope_theta") or values.get("rope_theta") or family.default_rope_theta
    return theta


def layer_types(values: Values, family: Family) -> list[str]:
    """Return "global" or "local" for each layer, which may be given as patterns and repetitions."""
    if values.get(family.layer_types_key):
        return list(values[family.layer_types_key])
    patterns = values.get("attention_types") or [[["global", "local"], 12]]
    return [kind for pattern, times in patterns for _ in range(times) for kind in pattern]


def end_of_text(values: Values) -> int:
    """Return the first id of eos_token_id, or -1 if there is none."""
    found = values.get("eos_token_id")
    if isinstance(found, list):
        found = found[0] if found else None
    return -1 if found is None else int(found)


def validate_config(values: Values, where: str) -> ModelConfig:
    """Return a config of its values. Raises DataError (3) if they do not fit together."""
    try:
        return ModelConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(f"{where} describes no model: {place or 'sizes'}: {first['msg']}", "check the file") from error
