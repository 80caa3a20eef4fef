"""Cut a CSV stream into pieces of whole rows, in which pyarrow takes no quote for one that it is not.

To pyarrow, a quote at the start of a field opens a quoted field in any case. If it is only a character of the text, all
rows up to the next quote would become one field. Such a field is written here with quotes around it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gptctl.core.errors import DataError
from gptctl.io.input.csv_dialect import Dialect
from gptctl.io.input.encoding import Utf8Reader

LINE_FEED, RETURN = b"\n"[0], b"\r"[0]


@dataclass(frozen=True)
class RowCutter:
    """Cuts data behind its last whole row. `columns` is the number of fields in the header."""

    dialect: Dialect
    columns: int
    max_row_bytes: int

    def cut(self, data: bytes, is_last: bool) -> tuple[bytes, bytes]:
        """Return the whole rows of some data, and the rest. All is whole if it is the last."""
        quote = self.dialect.quote.encode()
        positions = np.flatnonzero(np.frombuffer(data, np.uint8) == quote[0]) if quote and quote in data else None
        if positions is None or not len(positions):
            end = len(data) if is_last else line_start(data, 0, len(data))
            return data[:end], data[end:]
        if self.are_pairs(data, positions, is_last):
            end = len(data)
            while not is_last and end and (end := line_start(data, 0, end)):
                before = int(np.searchsorted(positions, end))
                if before % 2 == 0:
                    break
                end = int(positions[before - 1])  # this line end is inside quotes
            if len(data) - end < self.max_row_bytes:
                return data[:end], data[end:]
        edits, end = self.find_literal(data, is_last)
        parts, done = [], 0
        for start, stop in edits:
            if start < end:
                parts += [data[done:start], quote, data[start:stop].replace(quote, 2 * quote), quote]
                done = stop
        return b"".join([*parts, data[done:end]]), data[end:]

    def are_pairs(self, data: bytes, positions: np.ndarray, is_last: bool) -> bool:
        """Return whether all quotes are at the start and the end of fields, or doubled inside them."""
        if is_last and len(positions) % 2:
            return False
        codes = np.frombuffer(data, np.uint8)
        ends = np.zeros(256, bool)
        ends[[LINE_FEED, RETURN, ord(self.dialect.delimiter)]] = True
        opening, closing = positions[0::2], positions[1::2]
        is_start = (opening == 0) | ends[codes[opening - 1]]
        is_start[1:] |= opening[1:] == closing[: len(opening) - 1] + 1
        is_end = (closing == len(data) - 1) | ends[codes[np.minimum(closing + 1, len(data) - 1)]]
        is_end[: len(opening) - 1] |= opening[1:] == closing[: len(opening) - 1] + 1
        if not (is_start.all() and is_end.all()):
            return False
        if self.dialect.delimiter != "\t":
            return True
        line_ends = np.flatnonzero(codes == LINE_FEED)
        return not (np.searchsorted(positions, line_ends) % 2).any()

    @cached_property
    def field_start(self) -> re.Pattern[bytes]:
        """A quote at the start of a field."""
        return re.compile(rb"(?:(?<=[" + self.dialect.ends + rb"])|\A)" + re.escape(self.dialect.quote.encode()))

    def find_literal(self, data: bytes, is_last: bool) -> tuple[list[tuple[int, int]], int]:
        """Return the fields that begin with a quote which is only a character, and the end of the last whole row."""
        literal: list[tuple[int, int]] = []
        position = row_start = 0
        while found := self.field_start.search(data, position):
            row_start = line_start(data, position, found.start()) or row_start
            field = self.dialect.quoted.match(data, found.start())
            is_open = (field is None or field.end() == len(data)) and self.is_open(data, found.start())
            if is_open and not is_last and len(data) - row_start < self.max_row_bytes:
                return literal, row_start
            if field is None or self.are_rows(data, *field.span()):
                plain = self.dialect.plain.match(data, found.start())
                assert plain is not None
                literal.append(plain.span())
                position = plain.end()
            else:
                position = field.end()
        return literal, len(data) if is_last else line_start(data, position, len(data)) or row_start

    def is_open(self, data: bytes, start: int) -> bool:
        """Return whether a quoted field that begins at `start` may go on behind the data."""
        found = self.open_field.match(data, start)
        return found is not None and found.end() == len(data)

    @cached_property
    def open_field(self) -> re.Pattern[bytes]:
        """A quoted field whose end may be missing."""
        quote = re.escape(self.dialect.quote.encode())
        return re.compile(quote + rb"(?:[^" + quote + rb"]++|" + 2 * quote + rb")*+" + quote + rb"?+")

    def are_rows(self, data: bytes, start: int, stop: int) -> bool:
        """Return whether the lines of a quoted field are rows of their own if its quotes are only characters.

        With tabs, which few texts contain, that is more likely than a quoted field which looks like rows. Other quotes
        in these lines show that the file uses them.
        """
        if self.dialect.delimiter != "\t" or b"\n" not in data[start:stop]:
            return False
        line_end = data.find(b"\n", stop)
        text = data[line_start(data, 0, start) : line_end if line_end >= 0 else len(data)]
        has_tabs = all(line.count(b"\t") == self.columns - 1 for line in text.split(b"\n"))
        return has_tabs and text.count(self.dialect.quote.encode()) == 2


def line_start(data: bytes, start: int, stop: int) -> int:
    """Return the position behind the last line end between two positions, or 0 if there is none.

    A return at the very end does not count, since a line feed may follow.
    """
    found = data.rfind(b"\n", start, stop)
    return (found if found >= 0 else data.rfind(b"\r", start, min(stop, len(data) - 1))) + 1


def row_groups(source: Utf8Reader, first: bytes, cutter: RowCutter, block_bytes: int) -> Iterator[bytes]:
    """Yield whole rows of about `block_bytes` together. `first` is what was read of the source before."""
    rest, data = b"", first
    while True:
        rows, rest = cutter.cut(rest + data, source.at_end)
        if len(rest) > 2 * cutter.max_row_bytes:
            raise DataError(f"a row is longer than {cutter.max_row_bytes:,} bytes", "the file is damaged or no CSV")
        if rows:
            yield rows
        if source.at_end:
            return
        data = source.read(block_bytes)
