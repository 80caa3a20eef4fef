"""The results of shard tasks: what a stage returns for one task, the record of a finished task, and their totals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import pyarrow as pa

from gptctl.core.summary import Counts
from gptctl.io.dataset.manifest import Shard
from gptctl.io.dataset.schema import concat
from gptctl.io.input.blocks import ReadResult, UnreadableRecord


@dataclass
class TaskOutput:
    """What a stage returns for one task's documents.

    `tables` are the rows to write, by sub-folder of shards/: "" for documents, "train", "val" and "test" for tokens.
    `stats` are numbers that the stage adds up over all tasks. `side_tables` are written beside the dataset, by folder:
    rejects, clusters. `quarantined` are documents that were read and lack a value; `counts` do not contain them.
    """

    tables: dict[str, pa.Table]
    counts: Counts
    stats: dict[str, Any] = field(default_factory=dict)
    side_tables: dict[str, pa.Table] = field(default_factory=dict)
    quarantined: list[UnreadableRecord] = field(default_factory=list)


def combine_outputs(parts: Sequence[TaskOutput]) -> TaskOutput:
    """Return the output of a task from the outputs of its parts. Stats, which must be numbers, are added up."""
    if len(parts) == 1:
        return parts[0]
    counts, stats = Counts(), Counter[str]()
    for part in parts:
        counts.add(part.counts)
        stats.update(part.stats)
    tables = concat_by_name([part.tables for part in parts])
    quarantined = [record for part in parts for record in part.quarantined]
    return TaskOutput(tables, counts, dict(stats), concat_by_name([part.side_tables for part in parts]), quarantined)


def concat_by_name(groups: Sequence[dict[str, pa.Table]]) -> dict[str, pa.Table]:
    """Return the tables of each name, joined in order."""
    names = dict.fromkeys(chain(*groups))
    return {name: concat([group[name] for group in groups if name in group]) for name in names}


@dataclass
class TaskRecord:
    """A finished task. `tables` are set only if the output is a pipe."""

    index: int
    key: str
    counts: Counts
    stats: dict[str, Any]
    shards: list[Shard]
    unreadable: list[UnreadableRecord]
    tables: dict[str, pa.Table] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the record that is kept in OUT/work/."""
        return {
            "key": self.key,
            "counts": self.counts.to_json(),
            "figures": self.stats,
            "shards": [shard.to_json() for shard in self.shards],
            "bad": [record.to_json() for record in self.unreadable],
        }

    @classmethod
    def from_json(cls, index: int, value: dict[str, Any]) -> TaskRecord:
        """Read what `to_json` wrote."""
        return cls(
            index,
            value["key"],
            Counts.from_json(value["counts"]),
            value["figures"],
            [Shard(**shard) for shard in value["shards"]],
            [UnreadableRecord.from_json(record) for record in value["bad"]],
        )


@dataclass
class PipelineTotals:
    """The results of all tasks, in the order of the input."""

    counts: Counts = field(default_factory=Counts)
    stats: list[dict[str, Any]] = field(default_factory=list)  # of each task
    shards: list[Shard] = field(default_factory=list)
    unreadable: list[UnreadableRecord] = field(default_factory=list)

    def add_read(self, found: ReadResult) -> None:
        """Add documents that were read, as if all of them were kept."""
        counts = self.counts
        counts.documents_in += len(found.documents) + len(found.unreadable)
        counts.kept += len(found.documents)
        counts.quarantined.update(item.reason for item in found.unreadable)
        counts.encodings.update(found.encodings)
        counts.skipped.update(found.skipped)
        self.unreadable += found.unreadable

    def add(self, record: TaskRecord) -> None:
        """Add a finished task."""
        self.counts.add(record.counts)
        self.stats.append(record.stats)
        self.shards += record.shards
        self.unreadable += record.unreadable
