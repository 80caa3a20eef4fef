"""Choosing the survivors of each cluster, so that each removed document is similar enough to a kept one.

Chains of similar documents hold a cluster together, so its ends may be dissimilar. The best document of a cluster
survives first. The documents that are too dissimilar from it choose again among themselves, in a few rounds; then the
rest chooses one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gptctl.text.dedup.sorted_arrays import is_in_sorted, run_starts
from gptctl.text.dedup.whole_documents import clusters
from gptctl.text.dedup.whole_documents.clusters import Clusters
from gptctl.text.dedup.whole_documents.verification import Verifier
from gptctl.text.dedup.whole_documents.workspace import Docs, lookup

MAX_ROUNDS = 8  # before documents choose one by one


@dataclass
class SurvivorSelection:
    """Chooses a survivor for each of `docs`, whose clusters are named by their first documents, `first`.

    Documents before `input_start` are those of `--against`: they are all kept, and preferred to those of INPUT.
    """

    verifier: Verifier
    docs: Docs
    first: Docs
    input_start: int
    survivor: Docs = field(init=False)
    similarity: NDArray[np.float64] = field(init=False)
    rank: NDArray[np.float64] = field(init=False)
    is_against: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        """Let every document be its own survivor."""
        self.survivor, self.similarity = self.docs.copy(), np.ones(len(self.docs))
        self.is_against = self.docs < np.uint64(self.input_start)
        self.rank = np.where(self.is_against, -np.inf, self._ranks())

    def run(self) -> Clusters:
        """Return the clusters with their survivors."""
        is_settled = self._settle_against()
        open_rows = self._choose_in_rounds(is_settled)
        self.survivor[open_rows] = self.docs[open_rows]
        open_rows = open_rows[~self.is_against[open_rows]]
        pairs = self._duplicate_pairs(self.docs[open_rows])
        self.survivor = choose_one_by_one(self.docs, self.survivor, self.rank, open_rows, pairs)
        self._measure(open_rows)
        return Clusters(self.docs, self.first, self.survivor, self.similarity)

    def _settle_against(self) -> NDArray[np.bool_]:
        """Choose the documents of `--against` for those of INPUT that form a pair with one; return which these are."""
        if self.is_against.any():
            start = np.uint64(self.input_start)
            for left, right in self._duplicate_pairs():
                chosen = (right < start) & (left >= start)
                np.minimum.at(self.survivor, np.searchsorted(self.docs, left[chosen]), right[chosen])
        is_settled = np.asarray(self.survivor != self.docs)
        self._measure(np.flatnonzero(is_settled))
        return is_settled

    def _choose_in_rounds(self, is_settled: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Choose the best document of each component for the others; return the rows that are dissimilar from theirs.

        After each round, the open documents form new components.
        """
        open_rows, labels = np.arange(len(self.docs)), self.first
        for _ in range(MAX_ROUNDS):
            if self.is_against[open_rows].all():
                break
            best = choose_best(self.docs[open_rows], labels, self.rank[open_rows])
            is_choosing = ~is_settled[open_rows] & ~self.is_against[open_rows]
            rows = open_rows[is_choosing]
            self.survivor[rows] = best[is_choosing]
            self._measure(rows)
            # NaN, which means not compared, counts as similar.
            is_settled[rows] = ~(self.similarity[rows] < self.verifier.criteria.threshold)
            is_settled[open_rows] |= self.is_against[open_rows] & (best == self.docs[open_rows])
            open_rows = open_rows[~is_settled[open_rows]]
            labels = self._components(self.docs[open_rows])
        return open_rows

    def _components(self, docs: Docs) -> Docs:
        """Label some documents, sorted, by the component that they belong to, which may include other documents."""
        labels = docs.copy()
        pool = self.verifier.pool
        found, first = clusters.connect(self._duplicate_pairs(docs), sum(self.verifier.task_sizes), pool.max_memory)
        chosen = is_in_sorted(found, docs)
        labels[np.searchsorted(docs, found[chosen])] = first[chosen]
        return labels

    def _duplicate_pairs(self, touching: Docs | None = None) -> Iterator[tuple[Docs, Docs]]:
        """Yield the duplicate pairs in parts: all, or those with one of some sorted documents."""
        runs = self.verifier.workspace.duplicate_pairs
        for number in runs.numbers():
            table = runs.open(number)
            left, right = table["left"].to_numpy(), table["right"].to_numpy()
            if touching is not None:
                chosen = is_in_sorted(left, touching) | is_in_sorted(right, touching)
                left, right = left[chosen], right[chosen]
            yield left, right

    def _measure(self, rows: NDArray[np.int64]) -> None:
        """Compute the similarity of some rows to their survivors."""
        if len(rows):
            runs = self.verifier.workspace.survivor_pairs
            runs.write(0, {"left": self.docs[rows], "right": self.survivor[rows]})
            self.similarity[rows] = np.concatenate(
                [pairs.similarity for pairs in self.verifier.verify(runs, len(rows))]
            )

    def _ranks(self) -> NDArray[np.float64]:
        """Return the rank of each document by the policy of `--keep`; the lowest is the best."""
        if not len(self.docs):
            return np.empty(0)
        return np.asarray(lookup(self.verifier.workspace.documents, self.docs, ["rank"])["rank"].to_numpy())


def choose_best(docs: Docs, labels: Docs, rank: NDArray[np.float64]) -> Docs:
    """Return for each document the one with the lowest rank of its component; of equals, the first in the input."""
    order = np.lexsort((docs, rank, labels))
    best = order[run_starts(labels[order])]
    survivor: Docs = docs[best][np.searchsorted(labels[best], labels)]
    return survivor


def choose_one_by_one(
    docs: Docs,
    survivor: Docs,
    rank: NDArray[np.float64],
    open_rows: NDArray[np.int64],
    pairs: Iterable[tuple[Docs, Docs]],
) -> Docs:
    """Choose survivors for `open_rows`, the best rank first: the best kept document that forms a pair with it, or none.

    A document that has none is kept. `survivor` are those of all documents; open ones are their own so far. `pairs` are
    those that touch an open row. Returns the survivors of all documents.
    """
    rows = [np.searchsorted(docs, [*left, *right]) for left, right in pairs]
    turned = [np.roll(both, len(both) // 2) for both in rows]
    own, other = (np.concatenate([np.empty(0, np.int64), *side]) for side in (rows, turned))
    order = np.lexsort((other, rank[other], own))
    own, other = own[order], other[order]
    starts, ends = np.searchsorted(own, open_rows), np.searchsorted(own, open_rows, "right")
    is_kept = survivor == docs
    is_kept[open_rows] = False
    chosen = survivor.copy()
    for number in np.lexsort((open_rows, rank[open_rows])).tolist():
        neighbours = other[starts[number] : ends[number]]
        neighbours = neighbours[is_kept[neighbours]]
        if len(neighbours):
            chosen[open_rows[number]] = docs[neighbours[0]]
        else:
            is_kept[open_rows[number]] = True
    return chosen
