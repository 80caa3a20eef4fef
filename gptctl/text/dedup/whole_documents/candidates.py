"""The second step: pair the documents that share a key, which are the candidates for duplicates.

The documents that share a key are a bucket. Each is paired with the first document of its bucket, so a bucket of n
documents makes n - 1 pairs and not all n * (n - 1) / 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gptctl.pipeline.sorted_runs import distinct
from gptctl.text.dedup.sorted_arrays import is_in_sorted, run_starts
from gptctl.text.dedup.whole_documents.workspace import Docs, Workspace


@dataclass(frozen=True)
class PairCandidates:
    """Writes the candidate pairs of a range of keys, in a worker.

    `only` names a numpy file with the sorted documents to look at; None means all.
    """

    workspace: Workspace
    round_number: int
    only: Path | None = None

    def __call__(self, numbered_range: tuple[int, tuple[int, int]]) -> int:
        """Pair the documents of each bucket and return the number of pairs."""
        number, (low, high) = numbered_range
        found = self.workspace.keys.between(low, high)
        left = right = np.empty(0, np.uint64)
        if found is not None:
            keys, docs = found["key"].to_numpy(), found["doc"].to_numpy()
            if self.only is not None:
                chosen = is_in_sorted(docs, np.load(self.only, mmap_mode="r", allow_pickle=False))
                keys, docs = keys[chosen], docs[chosen]
            left, right = pair_buckets(keys, docs)
        self.workspace.candidates(self.round_number).write(number, {"doc": distinct(np.concatenate([left, right]))})
        return self.workspace.candidate_pairs(self.round_number).write(number, {"left": left, "right": right})


def pair_buckets(keys: Docs, docs: Docs) -> tuple[Docs, Docs]:
    """Pair each document with the smallest that has the same key. Pairs are sorted and distinct."""
    order = np.lexsort((docs, keys))
    keys, docs = keys[order], docs[order]
    starts = run_starts(keys)
    first = docs[np.flatnonzero(starts)][np.cumsum(starts) - 1] if len(keys) else docs
    is_pair = ~starts & (first != docs)
    return distinct_pairs(docs[is_pair], first[is_pair])


def distinct_pairs(left: Docs, right: Docs) -> tuple[Docs, Docs]:
    """Sort pairs and remove repeated ones."""
    order = np.lexsort((right, left))
    left, right = left[order], right[order]
    is_new = run_starts(left) | run_starts(right)
    return left[is_new], right[is_new]
