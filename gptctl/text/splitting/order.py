"""The order in which documents fill the splits: that of a hash, or from the latest to the earliest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gptctl.core import seeds

Numbers = NDArray[np.uint64]
ONE_STRATUM = np.uint64(1)  # of every document if nothing is stratified


@dataclass(frozen=True)
class SplitOrder:
    """Gives each document its position, which is two numbers that are compared one after the other, and its stratum."""

    seed: int
    by_time: bool
    is_stratified: bool

    def positions(self, high: Numbers, low: Numbers, place: Numbers) -> tuple[Numbers, Numbers]:
        """Return the positions of documents from both halves of their exact keys and their times."""
        mixed = self.mix(high)
        return (~place, mixed) if self.by_time else (mixed, low)

    def strata(self, label: Numbers) -> Numbers:
        """Return the stratum of each document: its label if the division is stratified."""
        return label if self.is_stratified else np.full(len(label), ONE_STRATUM)

    def mix(self, values: Numbers) -> Numbers:
        """Return a hash of each number that depends on the seed (the finalizer of SplitMix64, Steele et al. 2014)."""
        mixed = values ^ np.uint64(seeds.derive(self.seed, "split"))
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(mixed ^ (mixed >> np.uint64(31)))
