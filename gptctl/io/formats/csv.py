"""CSV and TSV files with a header line, in any encoding and dialect.

Every column is read as text, so that a label "01" stays "01".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from gptctl.core.errors import DataError
from gptctl.io.dataset.stream import ENCODING, from_bytes, to_bytes
from gptctl.io.files import UNREADABLE, damaged, open_stream, split_suffixes
from gptctl.io.formats import InputFile
from gptctl.io.input import csv_dialect
from gptctl.io.input.blocks import Block, Encodings, ReadOptions, ReadResult, UnreadableRecord
from gptctl.io.input.csv_dialect import Dialect
from gptctl.io.input.csv_rows import RowCutter, row_groups
from gptctl.io.input.documents_from_rows import EXCERPT_CHARACTERS
from gptctl.io.input.documents_from_table import documents_from_table
from gptctl.io.input.encoding import UTF8, NotTextError, Utf8Reader

SUFFIXES = (".csv", ".tsv")
DIALECT = b"gptctl.dialect"  # in the metadata of a block's table


def split_file(file: InputFile, target_bytes: int, options: ReadOptions) -> Iterator[Block]:
    """Parse the file in order, since a quoted field may contain line ends, and yield about `target_bytes` at a time.

    Raises DataError (3) for a binary file, and for a header that names two columns alike.
    """
    block_bytes = max(target_bytes, 2 * options.max_doc_bytes)
    try:
        with open_stream(file.path) as stream:
            source = Utf8Reader(stream, options.encoding)
            data = source.read(block_bytes)
            dialect = csv_dialect.sniff(
                data[: csv_dialect.SAMPLE_BYTES], split_suffixes(file.path)[0] == ".tsv", options
            )
            start = csv_dialect.hint_length(data)
            header, end = next(dialect.rows(data[start:]), ([], 0))
            if not header:
                return
            parser = RowParser(file, dialect, column_names(file, header))
            cutter = RowCutter(dialect, len(header), block_bytes)
            yield from parser.blocks(row_groups(source, data[start + end :], cutter, block_bytes), source)
    except NotTextError as error:
        raise DataError(f"{file.path} is {error.reason}", "name its encoding with --set encoding=NAME") from error
    except UNREADABLE as error:
        raise damaged(file.path, error) from error


def column_names(file: InputFile, header: list[bytes]) -> list[str]:
    """Return the names in a header. Raises DataError (3) if two columns have one name."""
    names = [name.decode() for name in header]
    if repeated := sorted({name for name, count in Counter(names).items() if count > 1}):
        raise DataError(f"{file.path} has two columns called '{repeated[0]}'", "give each column its own name")
    return names


@dataclass(frozen=True)
class RowParser:
    """Parses rows of a file into tables of bytes; text that is not UTF-8 is found later, in workers."""

    file: InputFile
    dialect: Dialect
    names: list[str]

    def blocks(self, groups: Iterator[bytes], source: Utf8Reader) -> Iterator[Block]:
        """Yield a block for each group of rows, and an empty one if there are no rows."""
        first = read = 0
        yielded = False
        for group in groups:
            unreadable: list[UnreadableRecord] = []
            table = self.parse(group, read, unreadable)
            table = table.replace_schema_metadata({DIALECT: str(self.dialect), ENCODING: source.encoding})
            data, bad = to_bytes(table), tuple(unreadable)
            yield Block("csv", self.file.name, start=first, size=table.nbytes, data=data, unreadable=bad)
            first, read, yielded = first + len(table), read + len(table) + len(bad), True
        if not yielded:
            empty = pa.table({name: pa.array([], pa.binary()) for name in self.names})
            empty = empty.replace_schema_metadata({DIALECT: str(self.dialect), ENCODING: source.encoding})
            yield Block("csv", self.file.name, data=to_bytes(empty))

    def parse(self, rows: bytes, read: int, unreadable: list[UnreadableRecord]) -> pa.Table:
        """Return rows as a table. Add those that have more or fewer fields than the header to `unreadable`.

        `read` is the number of rows before them.
        """

        def skip(row: pacsv.InvalidRow) -> str:
            reason = f"{row.actual_columns} fields where {row.expected_columns} are expected, {self.dialect}"
            excerpt = (row.text or "")[:EXCERPT_CHARACTERS]
            position = f"row {read + 1 + row.number}"  # the header is row 1
            unreadable.append(UnreadableRecord(self.file.name, position, reason, excerpt))
            return "skip"

        return pacsv.read_csv(
            pa.BufferReader(rows),
            pacsv.ReadOptions(column_names=self.names, block_size=len(rows) + 1, use_threads=False),
            pacsv.ParseOptions(
                delimiter=self.dialect.delimiter, quote_char=self.dialect.quote or False,
                newlines_in_values=True, invalid_row_handler=skip,
            ),
            pacsv.ConvertOptions(column_types=dict.fromkeys(self.names, pa.binary()), strings_can_be_null=False),
        )  # fmt: skip


def read_block(block: Block, options: ReadOptions) -> ReadResult:
    """Turn parsed rows into documents.

    The encoding is in the column `encoding` if it is not UTF-8, unless the file has a column of that name.
    """
    table, unreadable, encodings, _ = read_table(block)
    try:
        documents, unusable, *_ = documents_from_table(table, block.start, block.name, options)
    except DataError as error:
        dialect = (table.schema.metadata or {})[DIALECT].decode()
        raise DataError(f"{error.message} ({dialect})", f"{error.hint}, or see csv.delimiter") from error
    if encodings and ENCODING not in documents.column_names:
        documents = documents.append_column(ENCODING, pa.array(list(encodings) * len(documents), pa.string()))
    encodings = Encodings(dict.fromkeys(encodings, len(documents)))
    return ReadResult(documents, unreadable + unusable, encodings)


def read_table(block: Block) -> ReadResult:
    """Return parsed rows as text. Rows with bytes that do not fit the file's encoding are unreadable records."""
    unreadable = list(block.unreadable)
    table = from_bytes(block.data)
    notes = table.schema.metadata
    encoding = notes[ENCODING.encode()].decode()
    if not all_utf8(table):
        usable = [all(is_utf8(value) for value in row.values()) for row in table.to_pylist()]
        reason = "not UTF-8" if encoding == UTF8 else f"not {encoding}"
        unreadable += [
            UnreadableRecord(block.name, f"row {block.start + number}", reason)
            for number, is_usable in enumerate(usable)
            if not is_usable
        ]
        table = table.filter(pa.array(usable))
    columns = {name: table[name].cast(pa.string()) for name in table.column_names}
    encodings = Encodings() if encoding == UTF8 else Encodings({encoding: len(table)})
    return ReadResult(pa.table(columns).replace_schema_metadata(notes), unreadable, encodings)


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
