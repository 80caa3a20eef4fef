"""Blocks and shard tasks: the pieces of the input that workers read, and what reading them gives."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import xxhash

from gptctl.core.config import ReadingOptions

# A text column that no input has: every record is then a document without text, whose columns are all kept.
NO_TEXT_COLUMN = "\0"


@dataclass(frozen=True)
class ReadOptions:
    """How to find documents in records. If `structured`, a text may be a list or an object, which becomes JSON.

    With `whole_records`, the text is the whole record as JSON, and there are no other columns than id and source. With
    `usual_columns`, a column of a usual name holds the text where there is no `text_column`. encoding: that of
    text and tables that are not UTF-8; "auto" detects it. delimiter, quote: those of CSV files; "auto" finds them in
    the file.
    """

    text_column: str = "text"
    id_column: str = "id"
    max_doc_bytes: int = 16 * 2**20
    structured: bool = False
    whole_records: bool = False
    usual_columns: bool = False
    encoding: str = "auto"
    delimiter: str = "auto"
    quote: str = "auto"

    @classmethod
    def from_config(cls, config: ReadingOptions) -> ReadOptions:
        """Return the options that a stage's config holds."""
        return cls(
            config.text_column, config.id_column, config.max_doc_bytes,
            encoding=config.encoding, delimiter=config.csv.delimiter, quote=config.csv.quote,
        )  # fmt: skip


@dataclass(frozen=True)
class Tolerance:
    """How many records may be unreadable: a share of all, or a number of records if that is more."""

    share: float = 0.0
    records: int = 0

    @classmethod
    def from_config(cls, config: ReadingOptions) -> Tolerance:
        """Return the tolerance that a stage's config holds."""
        return cls(config.max_bad, config.max_bad_records)

    def accepts(self, unreadable: int, records: int) -> bool:
        """Return whether so many of some records may be unreadable. All of them never may."""
        return not unreadable or (unreadable < records and unreadable <= max(self.records, self.share * records))


@dataclass(frozen=True)
class UnreadableRecord:
    """A record that could not be read, and why. `columns` are those of a record that lacks the one that was wanted."""

    source: str
    position: str
    reason: str
    excerpt: str = ""
    columns: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return a line of quarantine.jsonl."""
        found = {"file": self.source, "position": self.position, "reason": self.reason, "excerpt": self.excerpt}
        return found | ({"columns": list(self.columns)} if self.columns else {})

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> UnreadableRecord:
        """Read what `to_json` wrote."""
        columns = tuple(value.get("columns", ()))
        return cls(value["file"], value["position"], value["reason"], value["excerpt"], columns)


Encodings = Counter[str]
Skipped = Counter[str]


class ReadResult(NamedTuple):
    """The documents of a piece of input, as a table, and the records that could not be read.

    `encodings` counts the documents that were decoded from another encoding than UTF-8, by the name of the encoding.
    `skipped` counts the records that are no documents, such as images in a web archive, by their type.
    """

    documents: pa.Table
    unreadable: list[UnreadableRecord]
    encodings: Encodings = Encodings()
    skipped: Skipped = Skipped()


@dataclass(frozen=True)
class Block:
    """A piece of input that one worker reads: a range of a file, or data that came through a pipe.

    `start` and `stop` count bytes, row groups or record batches, whichever the format splits by. `first_row` counts the
    rows before the block where the file does not say. `encodings` counts the documents in `data` that were decoded
    from another encoding than UTF-8, and `skipped` the records beside them that are no documents. `name` is the file's
    path below the INPUT argument; no other part of the path reaches a shard. `split` is that of a shard of a divided
    dataset, if all its splits are read.
    """

    format: str
    name: str
    path: str = ""
    start: int = 0
    stop: int = -1
    size: int = 0
    data: bytes = b""
    unreadable: tuple[UnreadableRecord, ...] = ()
    encodings: tuple[tuple[str, int], ...] = ()
    skipped: tuple[tuple[str, int], ...] = ()
    checksum: str = ""
    first_row: int = 0
    split: str = ""

    def key(self) -> str:
        """Return a key that identifies the block among unchanged input files, or by content if it has data."""
        content = xxhash.xxh3_128_hexdigest(self.data) if self.data else self.checksum
        return f"{self.format}|{self.name}|{self.start}|{self.stop}|{content}"


@dataclass(frozen=True)
class ShardTask:
    """The blocks that become one output shard.

    `payload` is what an earlier pass of the stage found for this task. `usual_columns` overrides that of ReadOptions.
    """

    index: int
    blocks: tuple[Block, ...]
    payload: bytes = b""
    usual_columns: bool = False

    @property
    def split(self) -> str:
        """Return the split that the documents belong to already, or an empty text."""
        return self.blocks[0].split if self.blocks else ""

    def key(self) -> str:
        """Return a key of the task's input: a finished shard is reused only if its key is the same."""
        return xxhash.xxh3_128_hexdigest("\n".join(block.key() for block in self.blocks).encode() + self.payload)
