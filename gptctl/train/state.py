"""What one rank holds while it trains, and what a resumed run must know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType

from torch import nn
from torch.optim import Optimizer

from gptctl.core.context import Context
from gptctl.core.run_folder import Run
from gptctl.train.checkpoints.async_writer import Writer
from gptctl.train.data.token_windows import Samples
from gptctl.train.faults import PassedOver
from gptctl.train.job import Model, TrainJob
from gptctl.train.monitor.monitor import Monitor
from gptctl.train.monitor.stragglers import StragglerDetector
from gptctl.train.strategies import Strategy


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
    strategy: Strategy
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
    watch: Monitor
    saved_step: int
    started: float  # on the monotonic clock, as if the run had never been interrupted
    stopping: bool = False  # some rank got a signal; all ranks know
    out_of_time: bool = False
    unwritten: bool = False  # some rank could not write a checkpoint
    stragglers: StragglerDetector = field(default_factory=StragglerDetector)

    @property
    def first(self) -> bool:
        """Return whether this rank is the one that writes."""
        return self.strategy.rank == 0
