"""What values the settings in a config.json of transformers may have, before anything is computed from them."""

from __future__ import annotations

import math
from typing import Any

from gptctl.model.config import ModelConfig
from gptctl.model.hf.family_spec import Family, Values

MAX_LAYERS = 2**16
MAX_NUMBER = 2**31 - 1  # ids and positions are numbers of 32 bits in other programs


def check_values(values: Values, family: Family) -> None:
    """Raise TypeError or ValueError, with the name of the key, for a value of transformers' that no model can have.

    Whether the weights and the memory allow it is checked when they are known.
    """
    for key in family.config_keys:
        if values.get(key.hf_name) is not None:
            check_value(key.hf_name, key.name, values[key.hf_name])
    for name in ("head_dim", "original_max_position_embeddings", "sliding_window", "window_size"):
        if values.get(name) is not None:
            check_integer(name, values[name], MAX_NUMBER)


def check_own_values(values: Values) -> None:
    """Raise TypeError or ValueError for a value in our own keys that no model can have."""
    for name, value in values.items():
        if name in ModelConfig.model_fields:
            check_value(name, name, value)


def check_value(shown_name: str, name: str, value: Any) -> None:
    """Raise TypeError or ValueError if our key `name` cannot have a value. Messages call the key `shown_name`."""
    kind = ModelConfig.model_fields[name].annotation
    if kind is int:
        least = -1 if name == "end_of_text" else 0
        check_integer(shown_name, value, MAX_LAYERS if name == "layers" else MAX_NUMBER, least)
    elif kind is float and (not is_number(value) or not math.isfinite(value)):
        raise TypeError(f"{shown_name} is {shown(value)}, not a finite number")
    elif kind is bool and type(value) is not bool:
        raise TypeError(f"{shown_name} is {shown(value)}, not true or false")


def check_integer(name: str, value: Any, limit: int, least: int = 0) -> None:
    """Raise TypeError for a value that is not a whole number, ValueError for one outside the limits."""
    if type(value) is not int:
        raise TypeError(f"{name} is {shown(value)}, not a whole number")
    if not least <= value <= limit:
        raise ValueError(f"{name} is {shown(value)}, and may be {least} to {limit:,}")


def is_number(value: Any) -> bool:
    """Return whether a value is a number, which true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def shown(value: Any) -> str:
    """Return the beginning of a value for a message."""
    return repr(value)[:40]
