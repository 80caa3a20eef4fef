"""Values of JSON files: where each one begins and ends, and integers that are longer than 64 bits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gptctl.io.input.blocks import ReadOptions, ReadResult
from gptctl.io.input.documents_from_rows import documents_from_rows

BETWEEN = " \t\r\n\ufeff"
INT64_MIN, UINT64_MAX = -(2**63), 2**64 - 1
FIRST_LOSSY = 2.0**63  # orjson makes floats of integers from here on


class NotJsonError(ValueError):
    """Raised for data in which no end of a JSON value can be found."""


def documents_from_json(
    rows: Sequence[Any], sources: Sequence[bytes], positions: Sequence[str], name: str, options: ReadOptions
) -> ReadResult:
    """Return the documents of parsed values, as `documents_from_rows` does. `sources` are their JSON texts.

    An integer of more than 64 bits becomes a text of its digits, where it would otherwise be rounded.
    """
    found = documents_from_rows(rows, positions, name, options)
    if has_large_floats(found.documents) or any(is_large(row, options.id_column) for row in rows):
        rows = [json.loads(source, parse_int=exact) for source in sources]
        found = documents_from_rows(rows, positions, name, options)
    return found


def exact(digits: str) -> int | str:
    """Return an integer of at most 64 bits, or the digits of a longer one."""
    if len(digits) < len(str(INT64_MIN)):
        return int(digits)
    return value if len(digits) < 40 and INT64_MIN <= (value := int(digits)) <= UINT64_MAX else digits


def is_large(row: Any, column: str) -> bool:
    """Return whether a row has a large float, or an object that may hold one, in a column."""
    value = row.get(column) if isinstance(row, dict) else None
    return isinstance(value, dict | list) or (isinstance(value, float) and abs(value) >= FIRST_LOSSY)


def has_large_floats(table: pa.Table) -> bool:
    """Return whether a float in any column, also inside lists and objects, may have been a longer integer."""
    return any(has_large_float(column) for column in table.columns)


def has_large_float(column: pa.ChunkedArray | pa.Array) -> bool:
    """Return whether a column has a float that may have been a longer integer."""
    kind = column.type
    if pa.types.is_floating(kind):
        return bool(pc.any(pc.greater_equal(pc.abs(column), FIRST_LOSSY)).as_py())
    if pa.types.is_struct(kind):
        return any(has_large_float(pc.struct_field(column, [i])) for i in range(kind.num_fields))
    if pa.types.is_list(kind):
        return has_large_float(pc.list_flatten(column))
    return False


def split_values(text: str) -> Iterator[tuple[int, int]]:
    """Yield where each value of a text begins and ends: the items of an array, or values one after the other.

    Raises NotJsonError where a value has no end. What is inside a value is not checked as strictly as orjson does.
    """
    scan = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode
    position = skip(text, 0)
    is_array = text[position : position + 1] == "["
    position = skip(text, position + is_array)
    while position < len(text):
        if is_array and text[position] == "]":
            position = skip(text, position + 1)
            if position < len(text):
                raise NotJsonError("text behind the array")
            return
        try:
            _, end = scan(text, position)
        except (ValueError, RecursionError) as error:
            raise NotJsonError(str(error)) from error
        yield position, end
        position = skip(text, end)
        if is_array and text[position : position + 1] == ",":
            position = skip(text, position + 1)
        elif is_array and text[position : position + 1] != "]":
            raise NotJsonError(f"no comma behind an item (character {position})")
    if is_array:
        raise NotJsonError("the array has no end")


def skip(text: str, position: int) -> int:
    """Return the position of the next character that is neither blank nor a byte order mark."""
    while position < len(text) and text[position] in BETWEEN:
        position += 1
    return position
