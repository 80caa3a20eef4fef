"""Which column holds the text of data that is compared with the input, if the user named none that it has."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

# The usual names of a text, the most telling first. All of them are names of columns of well-known data sets.
USUAL_NAMES = (
    "text", "question", "prompt", "sentence", "instruction", "input", "content", "query", "problem", "passage",
    "article", "document", "context", "body",
)  # fmt: skip
CONVERSATIONS = ("messages", "conversations", "conversation")  # columns of lists of turns


def name_text_column(columns: Collection[str]) -> str:
    """Return the hint for data that lacks the text column and has these columns."""
    named = "name the column that holds the text with --text-column"
    is_chat = any(column in CONVERSATIONS for column in columns)
    return f"conversations are read by: gptctl finetune --task chat; else {named}" if is_chat else named


def usual_text_column(columns: Mapping[str, pa.ChunkedArray]) -> str | None:
    """Return the first column with a usual name that has a text in at least half of its rows, or None."""
    for name in USUAL_NAMES:
        if name in columns and is_text(columns[name]) and 2 * count_texts(columns[name]) >= len(columns[name]):
            return name
    return None


def is_text(column: pa.ChunkedArray) -> bool:
    """Return whether a column holds texts."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def count_texts(column: pa.ChunkedArray) -> int:
    """Count the rows of a column of texts that are neither null nor blank."""
    trimmed = pc.utf8_trim_whitespace(column.cast(pa.large_string()))
    return int(pc.sum(pc.greater(pc.binary_length(trimmed), 0)).as_py() or 0)


def text_column_of_table(table: pa.Table, wanted: str) -> str:
    """Return the wanted column if the table has it, else one of a usual name, else the wanted one."""
    if wanted in table.column_names:
        return wanted
    return usual_text_column(dict(zip(table.column_names, table.columns, strict=True))) or wanted


def text_column_of_rows(rows: Sequence[Any], wanted: str) -> str:
    """Return the wanted key if any row has it, else one of a usual name, else the wanted one."""
    records = [row for row in rows if isinstance(row, dict)]
    if any(wanted in row for row in records):
        return wanted
    for name in USUAL_NAMES:
        values = [row.get(name) for row in records]
        if 2 * sum(isinstance(value, str) and bool(value.strip()) for value in values) >= len(rows) > 0:
            return name
    return wanted
