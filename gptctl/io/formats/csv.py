"""CSV and TSV files with a header line. Every column is read as text, so that a label "01" stays "01"."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from gptctl.core.errors import DataError
from gptctl.io.dataset.stream import from_bytes, to_bytes
from gptctl.io.files import UNREADABLE, damaged, open_stream, split_suffixes
from gptctl.io.formats import InputFile, txt
from gptctl.io.input.blocks import Block, ReadOptions, ReadResult, UnreadableRecord
from gptctl.io.input.documents_from_rows import EXCERPT_CHARACTERS
from gptctl.io.input.documents_from_table import documents_from_table

SUFFIXES = (".csv", ".tsv")


def split_file(file: InputFile, target_bytes: int, options: ReadOptions) -> Iterator[Block]:
    """Parse the file in order, since a quoted field may contain line ends, and yield about `target_bytes` at a time."""
    delimiter = "\t" if split_suffixes(file.path)[0] == ".tsv" else ","
    unreadable: list[UnreadableRecord] = []

    def skip(row: pacsv.InvalidRow) -> str:
        reason = f"{row.actual_columns} fields where {row.expected_columns} are expected"
        excerpt = (row.text or "")[:EXCERPT_CHARACTERS]
        unreadable.append(UnreadableRecord(file.name, f"row {row.number}", reason, excerpt))
        return "skip"

    parse = pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip)
    reading = pacsv.ReadOptions(block_size=max(target_bytes, 2 * options.max_doc_bytes), use_threads=False)
    try:
        names = column_names(file, delimiter, reading)
        as_bytes = pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.binary()), strings_can_be_null=False)
        row = 0
        with open_stream(file.path) as stream, pacsv.open_csv(stream, reading, parse, as_bytes) as reader:
            for batch in reader:
                table = pa.Table.from_batches([batch])
                yield Block(
                    "csv", file.name, start=row, size=table.nbytes, data=to_bytes(table), unreadable=tuple(unreadable)
                )
                unreadable.clear()
                row += len(table)
        if unreadable:
            yield Block("csv", file.name, start=row, unreadable=tuple(unreadable))
    except UNREADABLE as error:
        if file.size:
            raise damaged(file.path, error) from error


def column_names(file: InputFile, delimiter: str, reading: pacsv.ReadOptions) -> list[str]:
    """Read the header. Raises DataError (3) if two columns have one name."""
    parse = pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=lambda row: "skip")
    with (
        open_stream(file.path) as stream,
        pacsv.open_csv(stream, reading, parse, pacsv.ConvertOptions(check_utf8=False)) as reader,
    ):
        names = list(reader.schema.names)
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{file.path} has two columns called '{repeated[0]}'", "give each column its own name")
    return names


def read_block(block: Block, options: ReadOptions) -> ReadResult:
    """Turn parsed rows into documents. Rows that are not UTF-8 are unreadable records."""
    unreadable = list(block.unreadable)
    if not block.data:
        return ReadResult(txt.one_document(block.name, None), unreadable)
    table = from_bytes(block.data)
    if not all_utf8(table):
        usable = [all(is_utf8(value) for value in row.values()) for row in table.to_pylist()]
        unreadable += [
            UnreadableRecord(block.name, f"row {block.start + number}", "not UTF-8")
            for number, is_usable in enumerate(usable)
            if not is_usable
        ]
        table = table.filter(pa.array(usable))
    table = pa.table({name: table[name].cast(pa.string()) for name in table.column_names})
    documents, unusable = documents_from_table(table, block.start, block.name, options)
    return ReadResult(documents, unreadable + unusable)


def all_utf8(table: pa.Table) -> bool:
    """Return whether every field of a table is UTF-8."""
    try:
        for name in table.column_names:
            pc.cast(table[name], pa.string())
        return True
    except pa.ArrowInvalid:
        return False


def is_utf8(value: bytes | None) -> bool:
    """Return whether a field is UTF-8."""
    try:
        (value or b"").decode()
        return True
    except UnicodeDecodeError:
        return False
