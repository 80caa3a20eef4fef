"""Config values as nested dictionaries: merge, flatten, compare, and reduce to TOML's types."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xxhash
from pydantic import BaseModel

Values = dict[str, Any]


def merge(low: Values, high: Values) -> Values:
    """Lay `high` over `low`, table by table."""
    merged = dict(low)
    for name, value in high.items():
        below = merged.get(name)
        merged[name] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def nest(dotted: str, value: Any) -> Values:
    """Turn "a.b" and 1 into {"a": {"b": 1}}."""
    for part in reversed(dotted.split(".")):
        value = {part: value}
    return value  # type: ignore[no-any-return]


def flatten(values: Mapping[str, Any], prefix: str = "") -> Values:
    """Turn nested tables into dotted keys."""
    flat: Values = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def without(values: Values, dotted: set[str], prefix: str = "") -> Values:
    """Copy nested values and leave out some dotted keys."""
    return {
        name: without(value, dotted, f"{prefix}{name}.") if isinstance(value, dict) else value
        for name, value in values.items()
        if prefix + name not in dotted
    }


def look_up(values: Mapping[str, Any], dotted: str) -> Any:
    """Return the value of a dotted key, or None if there is none."""
    found: Any = values
    for part in dotted.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def plain(value: Any) -> Any:
    """Reduce a config value to TOML's types: models become tables, tuples lists, and paths strings."""
    if isinstance(value, BaseModel):
        held = vars(value)
        return {name: plain(held[name]) for name in type(value).model_fields}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def fingerprint(values: Values) -> str:
    """Hash settings. Equal settings have equal fingerprints, whatever the order of their keys."""
    return xxhash.xxh3_128_hexdigest(repr(sorted(flatten(values).items())).encode())


def shown(value: Any) -> str:
    """Return a value as errors show it."""
    return "not set" if value is None else repr(value)


def differing(old: Values, new: Values) -> list[str]:
    """Name the dotted keys in which two settings differ, each with both values."""
    left, right = flatten(old), flatten(new)
    return [
        f"{name} (was {shown(left.get(name))}, now {shown(right.get(name))})"
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name)
    ]
