"""JSON objects that contain a hash of their content. A damaged or edited one counts as missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import xxhash

from gptctl.core import atomic
from gptctl.core.errors import DataError
from gptctl.core.regular_files import read_small

CHECKSUM = "xxh3_128"


def digest(values: dict[str, Any]) -> str:
    """Return the hash of a JSON object's content, whatever its spacing in a file."""
    return xxhash.xxh3_128_hexdigest(json.dumps(values).encode())


def with_checksum(values: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON object with its hash added."""
    return values | {CHECKSUM: digest(values)}


def without_checksum(values: Any) -> dict[str, Any]:
    """Return a JSON object without its hash. Raises ValueError if the hash is missing or wrong."""
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    rest = {name: value for name, value in values.items() if name != CHECKSUM}
    if values.get(CHECKSUM) != digest(rest):
        raise ValueError("changed since it was written")
    return rest


def write(path: Path, values: dict[str, Any], flush: atomic.Flush = "all") -> None:
    """Write a JSON object with its hash."""
    atomic.write_json(path, with_checksum(values), flush)


def read(path: Path) -> dict[str, Any] | None:
    """Read a JSON object, or return None if the file is missing or damaged."""
    try:
        return without_checksum(json.loads(read_small(path)))
    except (FileNotFoundError, DataError, ValueError, RecursionError):
        return None
