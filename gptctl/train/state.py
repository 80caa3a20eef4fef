"""The state of one rank while it trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn
from torch.optim import Optimizer

from gptctl.core.context import Context
from gptctl.core.run_folder import Run
from gptctl.train import schedule
from gptctl.train.checkpoints.async_writer import AsyncCheckpointWriter
from gptctl.train.data.batch_reader import BatchReader
from gptctl.train.data.data_source import DataSource
from gptctl.train.faults import SkippedSamples
from gptctl.train.job import Model, TrainJob
from gptctl.train.monitor.monitor import Monitor
from gptctl.train.monitor.stragglers import ShareTimer, StragglerDetector
from gptctl.train.objectives import Objective
from gptctl.train.planning.time_budget import Pace
from gptctl.train.progress import TrainProgress
from gptctl.train.strategies import Strategy


@dataclass
class TrainerState:
    """Everything that one rank holds while it trains."""

    job: TrainJob
    run: Run
    context: Context
    strategy: Strategy
    objective: Objective
    model: Model
    parameters: Mapping[str, nn.Parameter]  # this rank's shards
    optimizers: Sequence[Optimizer]
    checkpoint_writer: AsyncCheckpointWriter
    train_data: DataSource
    val_data: DataSource | None
    progress: TrainProgress
    totals: list[tuple[int, int]]  # steps, and the total of steps that was planned at each
    skipped_samples: tuple[SkippedSamples, ...]
    monitor: Monitor
    saved_step: int  # of the newest checkpoint, -1 without one
    first_step: int  # after which this process started
    pace: Pace
    evaluation_seconds: float  # of the last evaluation, or as planned
    stop_requested: bool = False  # some rank got a signal; all ranks know
    write_failed: bool = False  # some rank could not write a checkpoint
    stragglers: StragglerDetector = field(default_factory=StragglerDetector)
    batch_reader: BatchReader = field(init=False)  # of train_data
    share_timer: ShareTimer = field(init=False)

    def __post_init__(self) -> None:
        self.batch_reader = BatchReader(self.train_data, self.strategy.device)
        self.share_timer = ShareTimer(self.strategy.device)

    @property
    def is_main(self) -> bool:
        """Return whether this rank is the one that writes and reports."""
        return self.strategy.rank == 0

    @property
    def total_steps(self) -> int:
        """Return the total of steps that is planned now."""
        return schedule.total_at(self.totals, self.progress.step)

    @property
    def signalled(self) -> bool:
        """Return whether this rank got a signal."""
        return self.context.stop.signal_number is not None
