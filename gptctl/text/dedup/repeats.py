"""Lines, paragraphs or long passages that stand somewhere before: found and removed in passes over shard tasks.

`mark` writes a key and a place for each line, paragraph or window of words; `later` finds, for a range of keys, every
place but the first of each key; `remove` takes these out of a task's documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gptctl.core.summary import Counts
from gptctl.io import jobs
from gptctl.io.exchange import Runs, of_task, places
from gptctl.io.jobs import Outcome
from gptctl.io.records import Task
from gptctl.io.schema import with_kind
from gptctl.text.dedup import lines, substrings

Method = Literal["lines", "paragraphs", "substring"]
NOTHING_LEFT = "only_duplicates"


@dataclass(frozen=True)
class Repeats:
    """What is looked for, and the folder of the runs.

    `min_chars`: shortest line or paragraph; `length`: words of a passage; `fold`: without case and digits.
    """

    folder: Path
    method: Method
    min_chars: int
    length: int
    fold: bool

    @property
    def keys(self) -> Runs:
        """`key`, `place`."""
        return Runs(self.folder / "keys")

    @property
    def later(self) -> Runs:
        """The `place` of everything that stands before, too."""
        return Runs(self.folder / "later")

    def mark(self, number: int, table: pa.Table) -> int:
        """Write the keys of a task's documents; gives their number."""
        text = table["text"].combine_chunks()
        if self.method == "substring":
            keys, positions = substrings.keys(text, self.length)
        else:
            keys, positions = lines.keys(text, unit(self.method), self.min_chars, self.fold)
        return self.keys.write(number, {"key": keys, "place": places(number, positions)})

    def find_later(self, part: tuple[int, tuple[int, int]]) -> int:
        """Write the places of a range of keys but the first of each key; gives their number."""
        number, (low, high) = part
        found = self.keys.between(low, high)
        repeated = np.empty(0, np.uint64)
        if found is not None:
            keys, where = found["key"].to_numpy(), found["place"].to_numpy()
            order = np.lexsort((where, keys))
            again = np.zeros(len(keys), np.bool_)
            again[1:] = keys[order][1:] == keys[order][:-1]
            repeated = where[order][again]
        return self.later.write(number, {"place": repeated})

    def positions(self, number: int) -> NDArray[np.int64]:
        """Give the positions within a task that stand before, sorted."""
        low, high = of_task(number)
        found = self.later.between(low, high)
        where = np.empty(0, np.uint64) if found is None else found["place"].to_numpy()
        return np.unique(where - np.uint64(low)).astype(np.int64)


def unit(method: Method) -> lines.Unit:
    """Say what `lines` calls a method's unit."""
    return "line" if method == "lines" else "paragraph"


@dataclass(frozen=True)
class RemoveRepeats:
    """Takes out of a task's documents what stands before; `first_new` is the number of the input's first task."""

    repeats: Repeats
    first_new: int

    def __call__(self, task: Task, table: pa.Table) -> Outcome:
        """Rewrite the documents; one of which nothing is left goes."""
        how = self.repeats
        text = table["text"].combine_chunks()
        gone = how.positions(self.first_new + task.index)
        if how.method == "substring":
            rest, units, size = substrings.remove(text, how.length, gone)
        else:
            rest, units, size = lines.remove(text, unit(how.method), how.min_chars, gone)
        empty = pc.and_(pc.equal(pc.binary_length(rest), 0), pc.greater(pc.binary_length(text), 0))
        changed = table.set_column(table.column_names.index("text"), "text", rest)
        kept = changed.filter(pc.invert(empty))
        counts = Counts(documents_in=len(table), kept=len(kept), bytes_in=jobs.text_bytes(table))
        counts.bytes_kept = jobs.text_bytes(kept)
        if len(kept) < len(table):
            counts.dropped[NOTHING_LEFT] = len(table) - len(kept)
            counts.dropped_bytes[NOTHING_LEFT] = int(pc.sum(pc.binary_length(text.filter(empty))).as_py())
        kept = kept.replace_schema_metadata(with_kind(kept.schema, "documents").metadata)
        return Outcome({"": kept}, counts, {"removed": units, "removed_bytes": size})
