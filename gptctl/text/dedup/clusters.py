"""From pairs of near-duplicates to clusters, each with the document that stays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gptctl.core.errors import MachineError
from gptctl.text.dedup.components import components

# What finding the components of a graph takes for each pair and each document in one.
BYTES_PER_EDGE = 64

Places = NDArray[np.uint64]
# The survivor of a document whose duplicate was found in an index that an earlier run made.
ELSEWHERE = np.uint64(2**64 - 1)


@dataclass(frozen=True)
class Clusters:
    """Documents that have a duplicate, sorted by place.

    `first`: the first document of each one's cluster, which chains of near-duplicates hold together. `survivor`: the
    document that stays for it, itself where it stays, with its `similarity` to that.
    """

    place: Places
    first: Places
    survivor: Places
    similarity: NDArray[np.float64]

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Which documents stay."""
        return np.asarray(self.place == self.survivor)

    def sizes(self) -> tuple[Places, NDArray[np.int64]]:
        """Give each cluster's first document and how many it has."""
        first, counts = np.unique(self.first, return_counts=True)
        return first, counts.astype(np.int64)


def connect(pairs: Iterable[tuple[Places, Places]], memory: int) -> tuple[Places, Places]:
    """Give the documents that stand in a pair, sorted, and the first document of each one's component.

    Pairs come in parts; between parts only one pair for each document is kept, so memory grows with the documents that
    have a duplicate, not with the pairs, nor with the documents. Raises MachineError (4) where it would pass `memory`.
    """
    nodes, labels = np.empty(0, np.uint64), np.empty(0, np.uint64)
    for left, right in pairs:
        first, second = np.concatenate([left, nodes]), np.concatenate([right, labels])
        needed = BYTES_PER_EDGE * len(first)
        if needed > memory:
            gigabytes = needed / 1e9
            raise MachineError(
                f"{len(first):,} pairs need {gigabytes:.1f} GB", f"give --memory {gigabytes + 0.1:.1f}GB"
            )
        nodes = np.unique(np.concatenate([first, second]))
        edges = np.stack([np.searchsorted(nodes, first), np.searchsorted(nodes, second)], axis=1)
        labels = nodes[components(len(nodes), edges)]
    return nodes, labels


def choose(nodes: Places, labels: Places, rank: NDArray[np.float64]) -> Places:
    """Give each document the one of its component with the lowest rank, the first in the input of equals."""
    order = np.lexsort((nodes, rank, labels))
    begins = np.ones(len(order), np.bool_)
    begins[1:] = labels[order][1:] != labels[order][:-1]
    best = order[begins]
    survivor: Places = nodes[best][np.searchsorted(labels[best], labels)]
    return survivor
