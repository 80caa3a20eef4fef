"""CSV and TSV with a header line. Every column is read as text: a label "01" stays "01"."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from gptctl.core.errors import DataError
from gptctl.io.dataset.stream import from_bytes, to_bytes
from gptctl.io.files import UNREADABLE, damaged, open_stream, split_suffixes
from gptctl.io.formats import InputFile, txt
from gptctl.io.input.records import Block, ReadOptions, UnreadableRecord, from_table

SUFFIXES = (".csv", ".tsv")


def cut(file: InputFile, target_bytes: int, options: ReadOptions) -> Iterator[Block]:
    """Parse in order (a quoted field can hold line ends) and hand out tables of about `target_bytes`."""
    tab = split_suffixes(file.path)[0] == ".tsv"
    delimiter = "\t" if tab else ","
    wrong: list[UnreadableRecord] = []

    def skip(row: pacsv.InvalidRow) -> str:
        wrong.append(
            UnreadableRecord(
                file.name,
                f"row {row.number}",
                f"{row.actual_columns} fields where {row.expected_columns} are expected",
                (row.text or "")[:200],
            )
        )
        return "skip"

    parse = pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip)
    reading = pacsv.ReadOptions(block_size=max(target_bytes, 2 * options.max_doc_bytes), use_threads=False)
    try:
        names = column_names(file, delimiter, reading)
        kept_as_read = pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.binary()), strings_can_be_null=False)
        row = 0
        with open_stream(file.path) as stream, pacsv.open_csv(stream, reading, parse, kept_as_read) as reader:
            for batch in reader:
                table = pa.Table.from_batches([batch])
                yield Block(
                    "csv", file.name, start=row, size=table.nbytes, data=to_bytes(table), unreadable=tuple(wrong)
                )
                wrong.clear()
                row += len(table)
        if wrong:
            yield Block("csv", file.name, start=row, unreadable=tuple(wrong))
    except UNREADABLE as error:
        if file.size:
            raise damaged(file.path, error) from error


def column_names(file: InputFile, delimiter: str, reading: pacsv.ReadOptions) -> list[str]:
    """Read the header."""
    parse = pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=lambda row: "skip")
    with (
        open_stream(file.path) as stream,
        pacsv.open_csv(stream, reading, parse, pacsv.ConvertOptions(check_utf8=False)) as reader,
    ):
        names = list(reader.schema.names)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{file.path} has two columns called '{twice[0]}'", "give each column a name of its own")
    return names


def read(block: Block, options: ReadOptions) -> tuple[pa.Table, list[UnreadableRecord]]:
    """Turn a parsed table into documents; rows that are not UTF-8 are unreadable."""
    unreadable = list(block.unreadable)
    if not block.data:
        return txt.one(block.name, None), unreadable
    table = from_bytes(block.data)
    if not all_utf8(table):
        usable = [all(is_utf8(value) for value in row.values()) for row in table.to_pylist()]
        unreadable += [
            UnreadableRecord(block.name, f"row {block.start + i}", "not UTF-8")
            for i, good in enumerate(usable)
            if not good
        ]
        table = table.filter(pa.array(usable))
    table = pa.table({name: table[name].cast(pa.string()) for name in table.column_names})
    documents, unusable = from_table(table, block.start, block.name, options)
    return documents, unreadable + unusable


def all_utf8(table: pa.Table) -> bool:
    """Return whether every field of a table is UTF-8."""
    try:
        for name in table.column_names:
            pc.cast(table[name], pa.string())
        return True
    except pa.ArrowInvalid:
        return False


def is_utf8(value: bytes | None) -> bool:
    """Return whether one field is UTF-8."""
    try:
        (value or b"").decode()
        return True
    except UnicodeDecodeError:
        return False
