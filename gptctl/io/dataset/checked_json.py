"""JSON that carries its own hash: records of finished pieces of work. One that was cut or changed counts as absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import xxhash

from gptctl.core import atomic

CHECKSUM = "xxh3_128"


def digest(values: dict[str, Any]) -> str:
    """Hash the content of a JSON object, whatever its spacing."""
    return xxhash.xxh3_128_hexdigest(json.dumps(values).encode())


def with_checksum(values: dict[str, Any]) -> dict[str, Any]:
    """Add the hash."""
    return values | {CHECKSUM: digest(values)}


def without_checksum(values: Any) -> dict[str, Any]:
    """Take the hash off. Raises ValueError where it is not that of the rest, or there is none."""
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    rest = {name: value for name, value in values.items() if name != CHECKSUM}
    if values.get(CHECKSUM) != digest(rest):
        raise ValueError("changed since it was written")
    return rest


def write(path: Path, values: dict[str, Any], flush: atomic.Flush = "all") -> None:
    """Write a record."""
    atomic.write_json(path, with_checksum(values), flush)


def read(path: Path) -> dict[str, Any] | None:
    """Read a record; None where there is none, or one that is damaged."""
    try:
        return without_checksum(json.loads(path.read_bytes()))
    except (FileNotFoundError, ValueError, RecursionError):
        return None
