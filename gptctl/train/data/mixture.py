"""Several data sources, mixed by weight in a fixed order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

import numpy as np
import torch

from gptctl.train.data.batch import Batch, concatenate
from gptctl.train.data.data_source import DataSource, TokenData, TrainSource
from gptctl.train.data.phases import MixturePhase, Phases


def open_sources(sources: Sequence[TrainSource], phases: Sequence[MixturePhase], starts: Sequence[int]) -> DataSource:
    """Open the sources of a run: a single one as it is, several as a mixture."""
    opened = [source.open() for source in sources]
    if len(opened) == 1:
        return opened[0]
    return Mixture(cast(list[TokenData], opened), Phases(phases, starts))


class Mixture:
    """Samples of several sources, whose order is a pure function of the weights and the sample's index.

    In each phase, every source has its exact share of any number of samples (shares.py). A source's own samples come in
    its own training order, each exactly once per epoch of the source, across phases.
    """

    def __init__(self, sources: Sequence[TokenData], phases: Phases) -> None:
        self.sources = sources
        self.phases = phases

    @property
    def samples_per_epoch(self) -> int:
        """Count the samples of all sources."""
        return sum(source.samples_per_epoch for source in self.sources)

    def batch(self, first_index: int, count: int) -> Batch:
        """Return `count` samples in training order."""
        phases = self.phases  # which another thread may replace
        before, chosen = phases.counts(first_index), phases.sources(first_index, count)
        parts = [
            self.sources[number].batch(int(before[number]), int((chosen == number).sum()))
            for number in np.unique(chosen).tolist()
        ]
        # The parts are in the order of the sources. Put each sample in its place.
        places = np.argsort(np.argsort(chosen, kind="stable"))
        return concatenate(parts).select(torch.from_numpy(places))

    def sequential(self, batch_size: int, rank: int = 0, world_size: int = 1, limit: int = 0) -> Iterator[Batch]:
        """Yield all samples once, source after source. Batch i of a source belongs to rank i modulo `world_size`.

        `limit` is that of each source.
        """
        for source in self.sources:
            yield from source.sequential(batch_size, rank, world_size, limit)


class ValSources:
    """The val splits of several sources by name, each of which is also evaluated for itself."""

    def __init__(self, sources: Mapping[str, DataSource]) -> None:
        self.sources = sources

    @property
    def samples_per_epoch(self) -> int:
        """Count the samples of all sources."""
        return sum(source.samples_per_epoch for source in self.sources.values())

    def batch(self, first_index: int, count: int) -> Batch:
        """Return samples of the first source."""
        return next(iter(self.sources.values())).batch(first_index, count)

    def sequential(self, batch_size: int, rank: int = 0, world_size: int = 1, limit: int = 0) -> Iterator[Batch]:
        """Yield all samples once, source after source. Batch i of a source belongs to rank i modulo `world_size`.

        `limit` is that of each source.
        """
        for source in self.sources.values():
            yield from source.sequential(batch_size, rank, world_size, limit)


def open_val_sources(opens: Mapping[str, Callable[[], DataSource]]) -> ValSources:
    """Open the val splits of several sources."""
    return ValSources({name: opened() for name, opened in opens.items()})
