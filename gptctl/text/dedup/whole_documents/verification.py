"""The third step: compute the exact Jaccard similarity of pairs of documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.io.input.blocks import ReadOptions, ShardTask
from gptctl.pipeline.sorted_runs import ROW_BITS, SortedRuns, distinct, of_task, places
from gptctl.text.dedup import shingles
from gptctl.text.dedup.whole_documents.candidates import distinct_pairs
from gptctl.text.dedup.whole_documents.criteria import Criteria
from gptctl.text.dedup.whole_documents.workspace import Docs, Workspace, lookup
from gptctl.text.dedup.worker_pool import WorkerPool

PAIR_BYTES = 160  # memory for each pair of a range while facts about its documents are looked up
MAX_TEXT_BYTES = 64 * 2**20  # text of the pairs that are compared at once; their shingles take up to four times as much


class VerifiedPairs(NamedTuple):
    """Pairs of documents with their similarity, NaN if they were not compared."""

    left: Docs
    right: Docs
    similarity: NDArray[np.float64]


@dataclass(frozen=True)
class WriteShingles:
    """Writes the shingles of the candidates of a task, in a worker."""

    criteria: Criteria
    workspace: Workspace
    options: ReadOptions

    def __call__(self, task: ShardTask) -> int:
        """Write them and return the number of documents."""
        rows = self.candidate_rows(task.index)
        if not len(rows):
            return 0
        return write_shingles(
            self.criteria, self.workspace, task.index, rows, self.workspace.cache.read(task, self.options)[0]
        )

    def candidate_rows(self, task: int) -> NDArray[np.int64]:
        """Return the rows of a task that occur in a candidate pair of the first round, sorted."""
        found = self.workspace.candidates(1).between(*of_task(task))
        if found is None:
            return np.empty(0, np.int64)
        return (distinct(found["doc"].to_numpy()) & np.uint64(2**ROW_BITS - 1)).astype(np.int64)


def write_shingles(
    criteria: Criteria, workspace: Workspace, task: int, rows: NDArray[np.int64], table: pa.Table
) -> int:
    """Write the shingles of some of a task's documents and return the number of documents."""
    values, offsets = shingles.sets(table["text"].combine_chunks().take(pa.array(rows)), criteria.shingling)
    lists = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))
    return workspace.shingle_sets.write(task, {"doc": places(task, rows), "shingles": lists})


@dataclass(frozen=True)
class VerifyPairs:
    """Computes the similarity of the pairs whose left document lies in a range, in a worker.

    `text_bytes` is the text of the pairs whose shingles, 64 bits each, are in memory at once.
    """

    criteria: Criteria
    workspace: Workspace
    pairs: SortedRuns
    text_bytes: int

    def __call__(self, docs: tuple[int, int]) -> VerifiedPairs:
        """Return the distinct pairs of a range of left documents, sorted.

        Documents with equal exact keys have similarity 1, even if they are too short for a shingle. Other pairs have
        similarity 0 if only exact copies count, and NaN if they are not to be verified.
        """
        found = self.pairs.between(*docs)
        if found is None:
            return VerifiedPairs(np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0))
        left, right = distinct_pairs(found.column(0).to_numpy(), found.column(1).to_numpy())
        is_copy, length = compare_exact_keys(self.workspace, left, right)
        similarity = np.where(is_copy, 1.0, np.nan if self.criteria.near_duplicates else 0.0)
        if self.criteria.near_duplicates and self.criteria.verify:
            rows = np.flatnonzero(~is_copy)
            step = np.cumsum(length[rows]) // self.text_bytes
            for chosen in np.split(rows, np.flatnonzero(np.diff(step)) + 1):
                if len(chosen):
                    similarity[chosen] = jaccard(self.workspace, left[chosen], right[chosen])
        return VerifiedPairs(left, right, similarity)


def compare_exact_keys(workspace: Workspace, left: Docs, right: Docs) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return which pairs have equal exact keys, and the bytes of text of both documents together."""
    docs = distinct(np.concatenate([left, right]))
    one, other = np.searchsorted(docs, left), np.searchsorted(docs, right)
    facts = lookup(workspace.documents, docs, ["high", "low", "length"])
    high, low, length = (facts[name].to_numpy() for name in ("high", "low", "length"))
    return (high[one] == high[other]) & (low[one] == low[other]), length[one] + length[other]


def jaccard(workspace: Workspace, left: Docs, right: Docs) -> NDArray[np.float64]:
    """Return the exact Jaccard similarity of pairs of documents."""
    docs = distinct(np.concatenate([left, right]))
    lists = lookup(workspace.shingle_sets, docs, ["shingles"])["shingles"].combine_chunks()
    values, offsets = lists.values.to_numpy(), lists.offsets.to_numpy()
    return shingles.jaccard(values, offsets, np.searchsorted(docs, left), np.searchsorted(docs, right))


@dataclass(frozen=True)
class Verifier:
    """Verifies pairs on a pool of workers. `task_sizes` is the number of documents of each task."""

    criteria: Criteria
    workspace: Workspace
    pool: WorkerPool
    task_sizes: Sequence[int]

    def verify(self, pairs: SortedRuns, count: int) -> Iterator[VerifiedPairs]:
        """Yield about `count` pairs with their similarity, in the order of their left documents."""
        text_bytes = min(MAX_TEXT_BYTES, max(2**20, self.pool.memory_per_worker // 8))
        yield from self.pool.map(
            VerifyPairs(self.criteria, self.workspace, pairs, text_bytes), pairwise(self._cuts(count))
        )

    def _cuts(self, count: int) -> list[int]:
        """Return locations that cut all documents into ranges, each with few enough pairs for a worker."""
        ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.task_sizes, dtype=np.int64)])
        documents = int(ends[-1])
        parts = max(1, min(documents, max(4 * self.pool.concurrency, self.pool.partitions(count, PAIR_BYTES))))
        cuts = np.array([documents * number // parts for number in range(parts + 1)])
        tasks = np.searchsorted(ends, cuts, "right") - 1
        rows = cuts - ends[tasks]
        return [of_task(int(task))[0] + int(row) for task, row in zip(tasks, rows, strict=True)]
