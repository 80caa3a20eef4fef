"""Objectives: what a model learns from a batch, and how it is scored. One file per objective.

An objective's module follows `ObjectiveModule`.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

from gptctl.train.data.batch import Batch
from gptctl.train.job import Model, TrainJob
from gptctl.train.strategies import Strategy


class SummedLoss(NamedTuple):
    """A loss as a sum over targets, so that sums over micro-batches and ranks, divided once, give the mean."""

    total: Tensor
    targets: Tensor  # how many targets the sum has
    metrics: Tensor | None = None  # sums over the targets of the objective's step_metrics, (N,) float64


class Objective(Protocol):
    """One run's objective. It may hold state of its own, such as a reference model."""

    unit: str  # of a target, as the user reads it: tokens, texts
    step_metrics: tuple[str, ...]  # what "step" events have besides the loss, as means over targets

    def prepare(self, strategy: Strategy, precision: str, compiled: bool) -> None:
        """Let a strategy place the models that the objective holds, with strategy.prepare_model.

        It is called once per rank, after the strategy has prepared the model that is trained.
        """

    def loss(self, model: Model, batch: Batch) -> SummedLoss:
        """Return the loss of a batch, with its gradient. It must not depend on how samples are cut into batches."""

    def init_metrics(self, model: Model) -> Tensor:
        """Return the metrics' sums over no samples, (N,) float64 on the CPU."""

    def batch_metrics(self, model: Model, batch: Batch) -> Tensor:
        """Return the metrics' sums over a batch, (N,) float64 on its device. They are added over batches and ranks."""

    def compute_metrics(self, sums: Tensor) -> dict[str, float]:
        """Return metrics by name from the sums over a whole split; one of them is "loss"."""


class ObjectiveModule(Protocol):
    """What the module of an objective defines."""

    def build(self, job: TrainJob) -> Objective:
        """Return the objective of a run. job.model is the source of the model before training."""


CONTRACT = ObjectiveModule
