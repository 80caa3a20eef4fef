"""Several data sources, mixed by weight in a fixed order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from gptctl.core.errors import UsageError
from gptctl.core.seeds import derive
from gptctl.train.data.batch import Batch, concatenate
from gptctl.train.data.data_source import DataSource, WeightedSource
from gptctl.train.data.permutation import permute

BLOCK = 4096  # samples; each block holds every source in the same proportion, to which weights are rounded


def open_sources(sources: Sequence[WeightedSource], seed: int) -> DataSource:
    """Open the sources of a run: a single one as it is, several as a mixture."""
    opened = [source.open() for source in sources]
    return opened[0] if len(opened) == 1 else Mixture(opened, [source.weight for source in sources], seed)


class Mixture:
    """Samples of several sources, whose order is a pure function of the seed and the sample's index.

    In each block of BLOCK samples every source has a fixed number of places, in random order. A source's own samples
    come in its own training order, each exactly once per epoch of the source.
    """

    def __init__(self, sources: Sequence[DataSource], weights: Sequence[float], seed: int) -> None:
        self.sources = sources
        self.seed = seed
        self.quotas = block_quotas(weights)

    @property
    def samples_per_epoch(self) -> int:
        """Count the samples of all sources."""
        return sum(source.samples_per_epoch for source in self.sources)

    def batch(self, first_index: int, count: int) -> Batch:
        """Return `count` samples in training order."""
        first_block, offset = divmod(first_index, BLOCK)
        blocks = range(first_block, (first_index + count - 1) // BLOCK + 1)
        order = np.concatenate([self.block_order(block) for block in blocks])
        before, chosen = order[:offset], order[offset : offset + count]
        parts = []
        for number in np.unique(chosen).tolist():
            first = first_block * self.quotas[number] + int((before == number).sum())
            parts.append(self.sources[number].batch(first, int((chosen == number).sum())))
        # The parts are in the order of the sources. Put each sample in its place.
        places = np.argsort(np.argsort(chosen, kind="stable"))
        return concatenate(parts).select(torch.from_numpy(places))

    def block_order(self, block: int) -> NDArray[np.int64]:
        """Return the number of the source of each sample of a block."""
        numbers = np.repeat(np.arange(len(self.sources)), self.quotas)
        return numbers[permute(np.arange(BLOCK), BLOCK, derive(self.seed, "mixture", block))]

    def sequential(self, batch_size: int, rank: int = 0, world_size: int = 1, limit: int = 0) -> Iterator[Batch]:
        """Yield all samples once, source after source. Batch i of a source belongs to rank i modulo `world_size`.

        `limit` is that of each source.
        """
        for source in self.sources:
            yield from source.sequential(batch_size, rank, world_size, limit)


def block_quotas(weights: Sequence[float]) -> list[int]:
    """Return how many samples of a block come from each source: at least one, by largest remainder.

    Raises UsageError (2) for a weight that is not positive.
    """
    if min(weights) <= 0:
        raise UsageError(f"the weight of a data source must be positive, not {min(weights)}", "leave the source out")
    exact = np.array(weights) / sum(weights) * BLOCK
    quotas = np.maximum(1, np.floor(exact)).astype(int)
    while quotas.sum() < BLOCK:
        quotas[np.argmax(exact - quotas)] += 1
    while quotas.sum() > BLOCK:
        quotas[np.argmax(quotas)] -= 1
    return [int(quota) for quota in quotas]
