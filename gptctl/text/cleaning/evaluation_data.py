"""Read the evaluation data of --decontaminate. Every row counts: none may lack a text, and some must be findable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from gptctl.core.errors import DataError
from gptctl.core.formatting import format_count
from gptctl.core.written_files import FileState, states_of
from gptctl.io.dataset.schema import concat
from gptctl.io.formats import InputFile
from gptctl.io.input.blocks import NO_TEXT_COLUMN, ReadOptions
from gptctl.io.input.find import find_files
from gptctl.io.input.inputs import Inputs
from gptctl.io.input.read_task import read_task
from gptctl.io.input.text_columns import columns_of, has_columns
from gptctl.io.input.usual_columns import is_text, usual_text_column
from gptctl.io.object_storage.address import is_uri
from gptctl.text.cleaning import contamination
from gptctl.text.cleaning.contamination import NgramIndex

ALL_COLUMNS = "*"
HINT = "name a column with --set contamination.text_column=COLUMN; * compares all columns of texts"


@dataclass(frozen=True)
class EvaluationFile:
    """The texts of one file of evaluation data.

    `texts` has for each compared column the texts of all rows, each row a list. `columns` are the names of these
    columns, and `others` those of the columns of texts that are not compared. Both are empty for files without columns.
    """

    rows: int
    texts: tuple[list[list[str]], ...]
    columns: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class EvaluationData:
    """The index of all evaluation texts, and what they are.

    `too_short` of the `rows` have fewer than `min_words` words in every column that is compared.
    """

    index: NgramIndex
    rows: int
    too_short: int
    min_words: int
    columns: tuple[str, ...]
    others: tuple[str, ...]

    def describe(self) -> str:
        """Return in words what is compared."""
        compared = f"evaluation data: {format_count(self.rows, 'row')}"
        if self.columns:
            compared += f", column{'s' * (len(self.columns) > 1)} {', '.join(self.columns)}"
        if self.others:
            compared += f" (not {', '.join(self.others)}; --set contamination.text_column=* compares all)"
        if self.too_short:
            compared += f"; {format_count(self.too_short, 'row')} of fewer than {self.min_words} words cannot be found"
        return compared


def read(paths: tuple[str, ...], text_column: str | None, n: int, reading: ReadOptions) -> EvaluationData:
    """Read evaluation data and index it, once per process until a local file changes.

    `reading` has the encoding and the dialect of CSV files. Raises UsageError (2) for a path that does not exist.
    Raises DataError (3) if a file cannot be read, if a row has no text in the column, and if a path has no row, or
    only rows that are too short to be found.
    """
    found = (Path(file.path) for path in paths for file in find_files(path) if not is_uri(file.path))
    return read_once(paths, text_column, n, reading, tuple(states_of(found).values()))


@lru_cache(maxsize=1)
def read_once(
    paths: tuple[str, ...], text_column: str | None, n: int, reading: ReadOptions, states: tuple[FileState, ...]
) -> EvaluationData:
    """Read evaluation data whose local files have these states, and index it. Raises as `read`."""
    min_words = min(contamination.MIN_TEXT_WORDS, n)
    files: list[EvaluationFile] = []
    too_short = 0
    for path in paths:
        found = list(read_files(path, text_column, reading))
        rows = sum(file.rows for file in found)
        if not rows:
            raise DataError(f"{path} has no row to compare", "name a file with evaluation data, or leave it out")
        short = sum(count_too_short(file, min_words) for file in found)
        if short == rows:
            raise DataError(
                f"nothing of {path} can be found: all {rows:,} rows have fewer than {min_words} words",
                HINT if any(file.others for file in found) else "lower it with --set contamination.words=N",
            )
        files += found
        too_short += short
    index = contamination.build_index((as_array(column) for file in files for column in file.texts), n)
    columns = dict.fromkeys(name for file in files for name in file.columns)
    others = dict.fromkeys(name for file in files for name in file.others if name not in columns)
    return EvaluationData(index, sum(file.rows for file in files), too_short, min_words, tuple(columns), tuple(others))


def read_files(path: str, text_column: str | None, reading: ReadOptions) -> Iterator[EvaluationFile]:
    """Yield the files that a path names, each with the columns that are compared."""
    reading = replace(reading, text_column=NO_TEXT_COLUMN)
    for source in Inputs((path,), reading).sources:
        place = source.path if isinstance(source, InputFile) else source
        name = source.name if isinstance(source, InputFile) else source
        tables: list[pa.Table] = []
        for task in Inputs((place,), reading).tasks():
            found = read_task(task, reading)
            if found.unreadable:
                first = found.unreadable[0]
                raise DataError(f"{name} is not readable at {first.position}: {first.reason}", "correct or remove it")
            tables.append(found.documents)
        if tables:
            yield of_table(name, concat(tables), text_column)


def of_table(name: str, table: pa.Table, text_column: str | None) -> EvaluationFile:
    """Return the texts of a file: of the named column, of all columns, or of the first one with a usual name.

    Raises DataError (3) if there is no such column, or if a row has no text in it.
    """
    if not has_columns(table):
        return EvaluationFile(len(table), ([[text] for text in table["text"].to_pylist()],))
    columns = columns_of(table)
    values = {column: [list(texts_in(value)) for value in columns[column].to_pylist()] for column in columns}
    with_texts = [column for column, rows in values.items() if any(rows)]
    chosen = [text_column or usual_text_column(columns) or ""]
    if text_column == ALL_COLUMNS:
        chosen = with_texts
    rows = {column: format_count(sum(map(bool, values[column])), "row") for column in with_texts}
    counts = ", ".join(f"{column} ({number})" for column, number in rows.items()) or "none"
    if len(table) and not (chosen and set(chosen) <= set(with_texts)):
        wanted = f"texts in column '{text_column}'" if text_column else "texts in a column of a usual name"
        raise DataError(f"{name} has no {wanted}; columns with texts: {counts}", HINT)
    lacking = [row for row in range(len(table)) if not any(values[column][row] for column in chosen)]
    if lacking:
        raise DataError(
            f"{len(lacking):,} of {len(table):,} rows of {name} have no text in column '{', '.join(chosen)}', first "
            f"row {lacking[0]}; columns with texts: {counts}",
            HINT,
        )
    others = [column for column in with_texts if column not in chosen and is_text(columns[column])]
    return EvaluationFile(len(table), tuple(values[column] for column in chosen), tuple(chosen), tuple(others))


def texts_in(value: object) -> Iterator[str]:
    """Yield the texts of a value that are not blank: itself, or those in its lists and objects."""
    if isinstance(value, str):
        if value.strip():
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts_in(item)


def count_too_short(file: EvaluationFile, min_words: int) -> int:
    """Return how many rows have no text with enough words."""
    is_long = np.zeros(file.rows, bool)
    for column in file.texts:
        owners = np.repeat(np.arange(file.rows), [len(texts) for texts in column])
        is_long[owners[contamination.count_words(as_array(column)) >= min_words]] = True
    return int((~is_long).sum())


def as_array(column: Sequence[list[str]]) -> pa.LargeStringArray:
    """Return the texts of all rows in one array."""
    return pa.array([text for texts in column for text in texts], pa.large_string())
