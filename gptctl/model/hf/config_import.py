"""A model's config from a config.json: in our keys, in those of transformers, or in both. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from gptctl.core.errors import DataError
from gptctl.model.config import ModelConfig
from gptctl.model.hf.config_export import to_hf_config
from gptctl.model.hf.config_read import convert
from gptctl.model.hf.config_values import check_own_values
from gptctl.model.hf.families import FAMILIES
from gptctl.model.hf.family_lookup import closest_family
from gptctl.model.hf.family_spec import Family

Values = dict[str, Any]


def read_model_config(values: Values, where: str) -> ModelConfig:
    """Return the model's config from the values of a config.json. `where` names the file in messages.

    Raises DataError (3) if they describe no model that gptctl knows.
    """
    if "model_type" in values:
        return next(candidate_configs(values, where))[1]
    if "gptctl" not in values:
        raise DataError(f"{where} describes no model", "it has no model_type of transformers")
    return own_config(values["gptctl"], where)


def candidate_configs(values: Values, where: str) -> Iterator[tuple[Family, ModelConfig]]:
    """Yield the configs that a config.json of transformers may stand for, the most specific one first.

    The first one is in our keys, if these still agree with those of transformers: transformers may have changed a
    folder that gptctl wrote. The last one is in the keys of transformers alone. Raises DataError (3) for settings that
    no config of gptctl has.
    """
    family = find_family(values, where)
    imported = from_hf_config(values, family, where)
    if "gptctl" in values:
        ours = own_config(values["gptctl"], where)
        closest = closest_family(ours)
        exported = from_hf_config(to_hf_config(ours, closest), closest, where)
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
    unsupported: list[str] = []
    try:
        ours = convert(values, family, unsupported) | {"end_of_text": end_of_text(values)}
    except (TypeError, ValueError, AttributeError, ArithmeticError, LookupError) as error:
        raise wrong_setting(error, where) from error
    if unsupported:
        raise DataError(
            f"{where} has settings that gptctl does not compute: {', '.join(unsupported)}",
            "export a model without them",
        )
    return validate_config(ours, where)


def own_config(values: Any, where: str) -> ModelConfig:
    """Return the config of values in our own keys. Raises DataError (3) if no model can have them."""
    try:
        check_own_values(values)
    except (TypeError, ValueError, AttributeError) as error:
        raise wrong_setting(error, where) from error
    return validate_config(values, where)


def wrong_setting(error: Exception, where: str) -> DataError:
    """Return the error for a value that no model can have."""
    return DataError(f"{where} has a setting that no model can have: {error}", "copy it again from its source")


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
