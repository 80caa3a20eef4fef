"""What one rank holds while it trains, and what a resumed run must know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gptctl.core.context import Context
from gptctl.core.rundir import Run
from gptctl.train.checkpoints import checkpoint
from gptctl.train.checkpoints.async_writer import Writer
from gptctl.train.data.token_windows import Samples
from gptctl.train.faults import PassedOver
from gptctl.train.job import Model, TrainJob
from gptctl.train.monitor.monitor import Watch
from gptctl.train.monitor.stragglers import Stragglers
from gptctl.train.optimizers.muon import Matrices

T = TypeVar("T")


class Engine(checkpoint.Holder, Matrices, Protocol):
    """What the loop needs to know about other ranks: one file each in strategies/."""

    ranks: int
    local_ranks: int  # on this machine
    data_rank: int  # which share of a batch this rank reads
    data_ranks: int  # out of how many
    device: torch.device

    def adopt(self, model: Model, precision: str, compiled: bool) -> dict[str, nn.Parameter]:
        """Put a model on the device, or spread it over ranks; give by name what this rank's optimizer works on."""

    def reduce_gradients(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Add gradients up over all ranks."""

    def square_sum(self, parameters: Iterable[nn.Parameter]) -> Tensor:
        """Return what this rank adds to the squared norm of the gradient, () float64 on the CPU."""

    def sum(self, values: Tensor) -> Tensor:
        """Add float64 values up over all shares of the batch."""

    def agree(self, value: T) -> T:
        """Give every rank what the first one holds."""

    def at(self, step: int, phase: str) -> None:
        """Show that this rank goes on, and where."""


@dataclass
class State:
    """What a resumed run must know besides tensors. Everything else follows from the job and the step."""

    step: int = 0
    samples: int = 0  # where in the data the next batch begins
    trained: int = 0  # samples that updates were made of: fewer where some were passed over
    tokens: int = 0
    seconds: float = 0.0  # spent on updates
    minutes: float = 0.0  # since the very start, evaluations and checkpoints included
    threads: int = 1
    precision: str = "fp32"  # of the model's matrix products
    update_precision: str = "fp32"  # of the optimizer's
    compiled: bool = False
    ranks: int = 1
    best: float | None = None
    best_step: int = 0
    stale_evaluations: int = 0
    loss_sum: float = 0.0  # since the last line of the log
    loss_count: int = 0
    train_loss: float = 0.0
    val: dict[str, float] = field(default_factory=dict)
    val_step: int = -1
    evaluations: int = 0
    recent: list[float] = field(default_factory=list)  # mean losses of the last updates, to tell a spike by
    skips_in_a_row: int = 0


@dataclass
class Fit:
    """Everything one rank holds while it trains."""

    job: TrainJob
    run: Run
    context: Context
    engine: Engine
    objective: ModuleType
    model: Model
    parameters: Mapping[str, nn.Parameter]  # or this rank's parts of them
    optimizers: Sequence[Optimizer]
    writer: Writer
    train_data: Samples
    val_data: Samples | None
    state: State
    total_steps: int
    total_batches: float  # the same in full batches, which a ramp's first steps are not
    passed_over: tuple[PassedOver, ...]
    watch: Watch
    saved_step: int
    started: float  # on the monotonic clock, as if the run had never been interrupted
    stopping: bool = False  # some rank got a signal; all ranks know
    out_of_time: bool = False
    unwritten: bool = False  # some rank could not write a checkpoint
    stragglers: Stragglers = field(default_factory=Stragglers)

    @property
    def first(self) -> bool:
        """Return whether this rank is the one that writes."""
        return self.engine.rank == 0
