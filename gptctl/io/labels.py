"""Labels of documents as text. A label that is absent, blank or NaN is no label, never a class of its own.

A label is the same in every file format: 1, 1.0, "1" and "1.0" are one label, and so are true, "true" and "True".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from gptctl.core.summary import LACKING
from gptctl.io.input.blocks import UnreadableRecord
from gptctl.io.input.documents_from_rows import EXCERPT_CHARACTERS

DEFAULT_COLUMN = "label"
NO_LABEL = LACKING[0]
WHOLE_NUMBER = re.compile(r"-?[0-9]+\.0+")  # as pandas writes integers in a column with gaps
ABSENT = 0  # the hash of a label that a document does not have


def labels_in(table: pa.Table, column: str) -> list[str | None]:
    """Return the label of each row, or None for every row of a table without the column."""
    return label_texts(table[column]) if column in table.column_names else [None] * len(table)


def label_texts(column: pa.ChunkedArray | pa.Array) -> list[str | None]:
    """Return the label of each row as text, or None for a row without one.

    Null, NaN, a text of white space only, and the text "NaN" or "nan", as CSV files have it, are no label.
    """
    return [as_label(value) for value in column.to_pylist()]


def as_label(value: Any) -> str | None:
    """Return a value as the text of a label, or None if it is none."""
    if value is None or value != value:
        return None
    text = label_text(value)
    return None if not text.strip() or text in ("NaN", "nan") else text


def label_text(value: Any) -> str:
    """Return the text by which a label is compared: whole numbers without a fraction, truth values in lower case."""
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    if WHOLE_NUMBER.fullmatch(text):
        return str(int(text.partition(".")[0]))
    return text.lower() if text.lower() in ("true", "false") else text


def lacking_records(table: pa.Table, reasons: Sequence[str]) -> list[UnreadableRecord]:
    """Return a line of the quarantine for each document with a reason; an empty text is none."""
    columns = [table[name].to_pylist() for name in ("source", "id", "text")]
    return [
        UnreadableRecord(source or "", f"id {identity}", reason, (text or "")[:EXCERPT_CHARACTERS])
        for reason, source, identity, text in zip(reasons, *columns, strict=True)
        if reason
    ]


def label_hashes(labels: Iterable[str | None]) -> NDArray[np.uint64]:
    """Return a hash of each label, and ABSENT for None."""
    return np.array([ABSENT if x is None else xxhash.xxh64_intdigest(x.encode()) or 1 for x in labels], np.uint64)
