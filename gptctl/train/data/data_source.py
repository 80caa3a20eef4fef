"""The contract of training data, and how a run lists the sources that it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gptctl.train.data.batch import Batch


class DataSource(Protocol):
    """Samples, addressed by a global index that runs over any number of epochs.

    A batch is a pure function of the source's seed and the indices of its samples. So a resumed run needs no state to
    find its place, and any number of ranks reads the same samples.
    """

    @property
    def samples_per_epoch(self) -> int:
        """Count the samples."""

    def batch(self, first_index: int, count: int) -> Batch:
        """Return `count` samples from a global index on, in training order: each epoch in a new order."""

    def sequential(self, batch_size: int, rank: int = 0, world_size: int = 1, limit: int = 0) -> Iterator[Batch]:
        """Yield samples once, in order, for evaluation. Batch i belongs to rank i modulo `world_size`.

        With a limit these are `limit` samples that are spread evenly over the source, otherwise all.
        """


class TokenData(DataSource, Protocol):
    """Samples whose targets are tokens, which a mixture counts for each source."""

    def count_targets(self, first_index: int, count: int) -> int:
        """Count the targets of `count` samples from a global index on."""


@dataclass(frozen=True)
class TrainSource:
    """One of the sources that a run reads. The name is empty where metrics do not list sources."""

    open: Callable[[], DataSource]  # picklable if the run has several ranks
    name: str = ""


def evaluation_batches(
    samples: int, batch_size: int, rank: int, world_size: int, limit: int = 0
) -> Iterator[Sequence[int]]:
    """Yield the samples of each batch that one rank evaluates, in order: batch i belongs to rank i modulo `world_size`.

    They are all samples, or `limit` of them at equal distances. A subset that only began the source would depend on how
    its documents are ordered.
    """
    is_limited = 0 < limit < samples
    chosen = [number * samples // limit for number in range(limit)] if is_limited else range(samples)
    for start in range(rank * batch_size, len(chosen), world_size * batch_size):
        yield chosen[start : start + batch_size]
