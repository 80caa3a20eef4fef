"""Clusters of duplicate documents: the connected components of all pairs, found in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gptctl.core.errors import MachineError
from gptctl.pipeline.sorted_runs import distinct
from gptctl.text.dedup.sorted_arrays import run_starts
from gptctl.text.dedup.whole_documents.workspace import Docs

# Memory that finding connected components takes for each pair; measured: 52 to 112.
BYTES_PER_PAIR = 112
# The survivor of a document whose duplicate was inserted into an index by an earlier run.
IN_INDEX = np.uint64(2**64 - 1)


@dataclass(frozen=True)
class Clusters:
    """The documents that have a duplicate, in the order of the input.

    `first` is the first document of each one's cluster. `survivor` is the document that is kept for it, which is the
    document itself if it is kept, and `similarity` is its similarity to that one, NaN if they were not compared.
    """

    docs: Docs
    first: Docs
    survivor: Docs
    similarity: NDArray[np.float64]

    @property
    def is_kept(self) -> NDArray[np.bool_]:
        """Mark the documents that are kept."""
        return np.asarray(self.docs == self.survivor)

    def sizes(self, input_start: int) -> tuple[Docs, NDArray[np.int64]]:
        """Return the first INPUT document of each cluster that has one, and the cluster's size, which is at least 2.

        The documents of INPUT begin at `input_start`; those before it are of `--against`, and count for the size.
        """
        order = np.argsort(self.first, kind="stable")
        starts = np.flatnonzero(run_starts(self.first[order]))
        counts = np.diff(np.append(starts, len(order)))
        against = np.add.reduceat(self.docs[order] < np.uint64(input_start), starts) if len(starts) else starts
        chosen = (against < counts) & (counts > 1)
        return self.docs[order][(starts + against)[chosen]], counts[chosen]


def connect(pairs: Iterable[tuple[Docs, Docs]], documents: int, max_memory: int) -> tuple[Docs, Docs]:
    """Return the documents that occur in a pair, sorted, and the first document of each one's component.

    Pairs come in parts. Between parts, only one pair is kept for each document, so memory grows with the number of
    documents that have a duplicate, not with the pairs, nor with all `documents`. Raises MachineError (4) if it would
    exceed `max_memory`.
    """
    limit = max_memory // BYTES_PER_PAIR
    found = np.empty(0, np.uint64), np.empty(0, np.uint64)
    pending: list[tuple[Docs, Docs]] = []
    size = 0
    for part in _cut(pairs, max(1, limit // 4)):
        if pending and len(found[0]) + size + len(part[0]) > limit:
            found, pending, size = _components_of([found, *pending]), [], 0
        if len(found[0]) + len(part[0]) > limit:
            needed, enough = (BYTES_PER_PAIR * count // 10**6 + 1 for count in (2 * limit, 4 * documents // 3))
            raise MachineError(
                f"there are more duplicates than --max-memory holds: {len(found[0]):,} documents so far",
                f"try for example --max-memory {min(needed, enough)}MB; enough in any case: --max-memory {enough}MB",
            )
        pending.append(part)
        size += len(part[0])
        # A merge processes all documents found so far. Merge seldom enough that this costs no more than the pairs do.
        if size > len(found[0]) // 2:
            found, pending, size = _components_of([found, *pending]), [], 0
    return _components_of([found, *pending]) if pending else found


def _cut(pairs: Iterable[tuple[Docs, Docs]], size: int) -> Iterator[tuple[Docs, Docs]]:
    """Cut pairs into parts of at most `size`."""
    for left, right in pairs:
        for start in range(0, len(left), size):
            yield left[start : start + size], right[start : start + size]


def _components_of(parts: Sequence[tuple[Docs, Docs]]) -> tuple[Docs, Docs]:
    """Return the documents of all pairs, sorted, and the first document of each one's component."""
    left, right = (np.concatenate(side) for side in zip(*parts, strict=True))
    docs = distinct(np.concatenate([left, right]))
    return docs, docs[components(len(docs), np.searchsorted(docs, left), np.searchsorted(docs, right))]


def components(n: int, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each of n documents the smallest document in its component, shape (n,).

    The order of pairs does not matter.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(left), np.bool_), (left, right)), shape=(n, n))
    count, component = connected_components(graph, directed=False)
    smallest = np.full(count, n, np.int64)
    np.minimum.at(smallest, component, np.arange(n))
    labels: NDArray[np.int64] = smallest[component]
    return labels
