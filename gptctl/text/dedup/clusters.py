"""From pairs of near-duplicates to clusters, each with the document that stays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gptctl.core.errors import MachineError
from gptctl.pipeline.sorted_runs import distinct

# What finding the components of a graph takes for each pair that goes in; measured: 52 to 112.
BYTES_PER_EDGE = 112

Places = NDArray[np.uint64]
# The survivor of a document whose duplicate was found in an index that an earlier run made.
ELSEWHERE = np.uint64(2**64 - 1)


@dataclass(frozen=True)
class Clusters:
    """Documents that have a duplicate, sorted by place.

    `first`: the first document of each one's cluster, which chains of near-duplicates hold together. `survivor`: the
    document that stays for it, itself where it stays, with its `similarity` to that (NaN: not compared).
    """

    place: Places
    first: Places
    survivor: Places
    similarity: NDArray[np.float64]

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Which documents stay."""
        return np.asarray(self.place == self.survivor)

    def sizes(self, first_new: int) -> tuple[Places, NDArray[np.int64]]:
        """Return the first document of the input in each cluster of several that has one, and how many the cluster has.

        The input's places begin at `first_new`; before it are those of documents that were there before.
        """
        order = np.argsort(self.first, kind="stable")
        begins = np.flatnonzero(starts(self.first[order]))
        counts = np.diff(np.append(begins, len(order)))
        old = np.add.reduceat(self.place[order] < np.uint64(first_new), begins) if len(begins) else begins
        here = (old < counts) & (counts > 1)
        return self.place[order][(begins + old)[here]], counts[here]


def connect(pairs: Iterable[tuple[Places, Places]], documents: int, memory: int) -> tuple[Places, Places]:
    """Return the documents that stand in a pair, sorted, and the first document of each one's component.

    Pairs come in parts; between parts only one pair for each document is kept, so memory grows with the documents that
    have a duplicate, not with the pairs, nor with all `documents`. Raises MachineError (4) where it would pass memory.
    """
    most = memory // BYTES_PER_EDGE
    found = np.empty(0, np.uint64), np.empty(0, np.uint64)
    waiting: list[tuple[Places, Places]] = []
    size = 0
    for part in steps(pairs, max(1, most // 4)):
        if waiting and len(found[0]) + size + len(part[0]) > most:
            found, waiting, size = joined([found, *waiting]), [], 0
        if len(found[0]) + len(part[0]) > most:
            needed, enough = (BYTES_PER_EDGE * count // 10**6 + 1 for count in (2 * most, 4 * documents // 3))
            raise MachineError(
                f"there are more duplicates than --memory holds: {len(found[0]):,} documents so far, and more come",
                f"give for example --memory {min(needed, enough)}MB; enough in any case: --memory {enough}MB",
            )
        waiting.append(part)
        size += len(part[0])
        # Each time, all that was found goes in again: seldom enough that this costs no more than the pairs do.
        if size > len(found[0]) // 2:
            found, waiting, size = joined([found, *waiting]), [], 0
    return joined([found, *waiting]) if waiting else found


def steps(pairs: Iterable[tuple[Places, Places]], size: int) -> Iterator[tuple[Places, Places]]:
    """Cut pairs into parts of at most `size`."""
    for left, right in pairs:
        for first in range(0, len(left), size):
            yield left[first : first + size], right[first : first + size]


def joined(parts: Sequence[tuple[Places, Places]]) -> tuple[Places, Places]:
    """Find the components of all pairs at once."""
    first, second = (np.concatenate(side) for side in zip(*parts, strict=True))
    nodes = distinct(np.concatenate([first, second]))
    labels = nodes[components(len(nodes), np.searchsorted(nodes, first), np.searchsorted(nodes, second))]
    return nodes, labels


def components(n: int, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Label each of n documents with the smallest document that edges connect it to, itself included: shape (n,).

    The order of edges does not matter.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(left), np.bool_), (left, right)), shape=(n, n))
    count, groups = connected_components(graph, directed=False)
    smallest = np.full(count, n, np.int64)
    np.minimum.at(smallest, groups, np.arange(n))
    labels: NDArray[np.int64] = smallest[groups]
    return labels


def choose(nodes: Places, labels: Places, rank: NDArray[np.float64]) -> Places:
    """Give each document the one of its component with the lowest rank, the first in the input of equals."""
    order = np.lexsort((nodes, rank, labels))
    best = order[starts(labels[order])]
    survivor: Places = nodes[best][np.searchsorted(labels[best], labels)]
    return survivor


def one_by_one(
    nodes: Places,
    survivor: Places,
    rank: NDArray[np.float64],
    waiting: NDArray[np.int64],
    pairs: Iterable[tuple[Places, Places]],
) -> Places:
    """Choose survivors for the rows `waiting`, the best rank first: of what is paired with it and stays, or itself.

    `survivor`: of all documents, those that wait being their own so far. `pairs`: those that touch these.
    """
    rows = [np.searchsorted(nodes, [*one, *other]) for one, other in pairs]
    turned = [np.roll(both, len(both) // 2) for both in rows]
    mine, other = (np.concatenate([np.empty(0, np.int64), *side]) for side in (rows, turned))
    order = np.lexsort((other, rank[other], mine))
    mine, other = mine[order], other[order]
    begins, ends = np.searchsorted(mine, waiting), np.searchsorted(mine, waiting, "right")
    stays = survivor == nodes
    stays[waiting] = False
    chosen = nodes[waiting]
    for place in np.lexsort((waiting, rank[waiting])).tolist():
        near = other[begins[place] : ends[place]]
        near = near[stays[near]]
        if len(near):
            chosen[place] = nodes[near[0]]
        else:
            stays[waiting[place]] = True
    return chosen


def starts(ordered: Places) -> NDArray[np.bool_]:
    """Tell where each run of equal numbers begins."""
    begins = np.ones(len(ordered), np.bool_)
    begins[1:] = ordered[1:] != ordered[:-1]
    return begins
