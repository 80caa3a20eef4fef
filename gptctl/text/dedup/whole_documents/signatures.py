"""The first step: hash every document into its band keys and its exact key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gptctl.core import checked_json
from gptctl.io.input.blocks import ReadOptions, ShardTask
from gptctl.io.input.read_task import read_task
from gptctl.pipeline.sorted_runs import places
from gptctl.text.dedup import minhash
from gptctl.text.dedup.corpus import TaskCounts
from gptctl.text.dedup.whole_documents import keep_policy
from gptctl.text.dedup.whole_documents.criteria import Criteria
from gptctl.text.dedup.whole_documents.workspace import Workspace

Columns = Mapping[str, NDArray[Any]]
Facts = Callable[[pa.Table], Columns]


@dataclass(frozen=True)
class SignTask:
    """Writes the keys and the facts of a task's documents, in a worker. `facts` returns a column for each fact.

    `keep` is the policy by which the facts rank documents.
    """

    criteria: Criteria
    workspace: Workspace
    facts: Facts
    options: ReadOptions
    keep: str = "first"

    def __call__(self, task: ShardTask) -> TaskCounts:
        """Read and hash a task, unless an interrupted run has done so."""
        record = self.workspace.signature_record(task.index)
        stored = checked_json.read(record)
        if stored and stored["key"] == task.key() and self.workspace.keys.path(task.index).exists():
            names = tuple(stored["known"]), tuple(stored["others"])
            return TaskCounts(stored["documents"], stored["unreadable"], stored["keys"], *names)
        found = read_task(task, self.options)
        table = found.documents
        facts = self.facts(table)
        self.workspace.cache.write(task, found)
        keys = write_keys(self.criteria, self.workspace, task.index, table, facts)
        names = keep_policy.known_names(self.keep, table)
        counts = TaskCounts(len(table), len(found.unreadable), keys, *names)
        checked_json.write(record, {"key": task.key()} | asdict(counts), flush="none")
        return counts


def write_keys(criteria: Criteria, workspace: Workspace, task: int, table: pa.Table, facts: Columns) -> int:
    """Write the keys of a task's documents and return their number."""
    text = table["text"].combine_chunks()
    exact_keys = write_documents(criteria, workspace, task, table, facts)
    columns = [exact_keys[:, 0] ^ exact_keys[:, 1] * minhash.MULTIPLIER]
    if criteria.near_duplicates:
        keys = minhash.document_keys(text, criteria.num_perm, criteria.shingling, criteria.seed, criteria.banding)
        columns += list(keys.T)
    docs = np.tile(places(task, np.arange(len(table))), len(columns))
    return workspace.keys.write(task, {"key": np.concatenate(columns), "doc": docs})


def write_documents(
    criteria: Criteria, workspace: Workspace, task: int, table: pa.Table, facts: Columns
) -> NDArray[np.uint64]:
    """Write what later steps need to know of each document, and return the exact keys, shape (n, 2)."""
    text = table["text"].combine_chunks()
    exact_keys = criteria.exact_keys(text)
    columns = {
        "doc": places(task, np.arange(len(table))),
        "high": exact_keys[:, 0].copy(),
        "low": exact_keys[:, 1].copy(),
        "length": pc.binary_length(text).cast(pa.int64()),
        "id": table["id"].combine_chunks().cast(pa.large_string()),
        **facts,
    }
    workspace.documents.write(task, columns)
    return exact_keys
