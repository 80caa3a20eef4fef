"""Find the delimiter and the quote of a CSV file in its first rows.

A delimiter is right if it divides the rows into as many fields as the header. Quotes around a field count only if a
delimiter or a line end follows the second one: any other quote is a character like all others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from gptctl.io.input.blocks import ReadOptions

AUTO, NO_QUOTE = "auto", "none"
DELIMITERS = (",", ";", "\t", "|")
NO_DELIMITER = "\x1f"  # what divides a file with one column: a character that occurs in no text
NAMES = {"\t": "tabs", " ": "blanks"}
SAMPLE_BYTES, SAMPLE_ROWS = 2**20, 1000
MIN_SHARE = 0.5  # of rows that have as many fields as the header
QUOTE_BONUS = 0.2  # by which that share must be higher for quotes to be nothing but characters
EXCEL_HINT = re.compile(rb'"?sep=([^"\r\n])"?\r?\n')  # a first line that Excel writes and obeys


@dataclass(frozen=True)
class Dialect:
    """How the fields of a CSV file are divided. `quote` is "" if quoting is off."""

    delimiter: str
    quote: str

    @cached_property
    def ends(self) -> bytes:
        """The characters that end a field, for a class of a regular expression."""
        return re.escape(self.delimiter).encode() + rb"\r\n"

    @cached_property
    def quoted(self) -> re.Pattern[bytes]:
        """A quoted field, in which a quote is doubled, if a delimiter, a line end or the end of the data follows."""
        quote = re.escape(self.quote).encode() or rb"(?!)"
        inside = rb"((?:[^" + quote + rb"]++|" + 2 * quote + rb")*+)" if self.quote else b"()"
        return re.compile(quote + inside + quote + rb"(?=[" + self.ends + rb"]|\Z)")

    @cached_property
    def plain(self) -> re.Pattern[bytes]:
        """All up to the next delimiter or line end."""
        return re.compile(rb"[^" + self.ends + rb"]*+")

    def rows(self, data: bytes) -> Iterator[tuple[list[bytes], int]]:
        """Yield the fields of each row that is not empty, and the position behind its line end."""
        position, row = 0, list[bytes]()
        quote = self.quote.encode()
        while position < len(data):
            if found := self.quoted.match(data, position):
                row.append(found[1].replace(2 * quote, quote))
            else:
                found = self.plain.match(data, position)
                assert found is not None  # it matches nothing, too
                row.append(found[0])
            position = found.end() + 1
            if data[position - 1 : position] == self.delimiter.encode():
                if position < len(data):
                    continue
                row.append(b"")
            if data[position - 1 : position + 1] == b"\r\n":
                position += 1
            if row != [b""]:
                yield row, position
            row = []

    def __str__(self) -> str:
        if self.delimiter == NO_DELIMITER:
            return "read as one column"
        quotes = "" if self.quote == '"' else f", {f'quoted by {self.quote}' if self.quote else 'without quotes'}"
        return f"separated by {NAMES.get(self.delimiter, repr(self.delimiter))}{quotes}"


@dataclass(frozen=True)
class Trial:
    """What a dialect makes of the first rows: the columns of the header, and the share of rows with as many fields.

    `has_blanks`: a column's name begins with a blank, as in "net (EUR, 2024)", which is one name.
    """

    dialect: Dialect
    columns: int
    share: float
    has_blanks: bool

    @classmethod
    def of(cls, sample: bytes, dialect: Dialect) -> Trial:
        """Try a dialect."""
        rows = [row for row, _ in islice(dialect.rows(sample), SAMPLE_ROWS)]
        sizes = [len(row) for row in rows]
        if len(sample) >= SAMPLE_BYTES and 2 < len(sizes) < SAMPLE_ROWS:
            sizes.pop()  # the last row is cut
        if not rows:
            return cls(dialect, 0, 0.0, False)
        has_blanks = any(name.startswith(b" ") for name in rows[0])
        return cls(dialect, sizes[0], sizes.count(sizes[0]) / len(sizes), has_blanks)


def hint_length(sample: bytes) -> int:
    """Return the length of the line `sep=;` that Excel puts before the header, or 0."""
    found = EXCEL_HINT.match(sample)
    return found.end() if found else 0


def sniff(sample: bytes, is_tsv: bool, options: ReadOptions) -> Dialect:
    """Return the dialect of a file whose first `SAMPLE_BYTES` are `sample`. What the options set is taken as it is."""
    delimiter, usual = options.delimiter, "\t" if is_tsv else ","
    if (hint := EXCEL_HINT.match(sample)) and delimiter == AUTO:
        delimiter = hint[1].decode("latin-1")
    sample = sample[hint_length(sample) :]
    quotes = {AUTO: ('"', ""), NO_QUOTE: ("",)}.get(options.quote, (options.quote,))
    delimiters = dict.fromkeys((usual, *DELIMITERS)) if delimiter == AUTO else (delimiter,)
    trials = [Trial.of(sample, Dialect(one, quote)) for one in delimiters for quote in quotes]
    if delimiter == AUTO:
        divided = [trial for trial in trials if trial.columns > 1]
        trials = [trial for trial in divided if trial.share >= MIN_SHARE] or [
            trial for trial in divided if trial.dialect.delimiter == usual
        ]
        trials = trials or [Trial.of(sample, Dialect(NO_DELIMITER, quote)) for quote in quotes]
    # max returns the first of equals: the usual delimiter.
    best = max(trials, key=lambda trial: (round(trial.share, 2), trial.columns, not trial.has_blanks))
    quoted = next(trial for trial in trials if trial.dialect.delimiter == best.dialect.delimiter)
    return (best if best.share > quoted.share + QUOTE_BONUS else quoted).dialect
