"""The state of one rank while it trains."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn
from torch.optim import Optimizer

from gptctl.core.context import Context
from gptctl.core.run_folder import Run
from gptctl.train.checkpoints.async_writer import AsyncCheckpointWriter
from gptctl.train.data.batch_reader import BatchReader
from gptctl.train.data.data_source import DataSource
from gptctl.train.faults import SkippedSamples
from gptctl.train.job import Model, TrainJob
from gptctl.train.monitor.monitor import Monitor
from gptctl.train.monitor.stragglers import ShareTimer, StragglerDetector
from gptctl.train.objectives import Objective
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
    total_steps: int
    total_full_batches: float  # total_steps in full batches, which the first steps of a batch ramp are not
    skipped_samples: tuple[SkippedSamples, ...]
    monitor: Monitor
    saved_step: int  # of the newest checkpoint, -1 without one
    start_time: float  # on the monotonic clock, as if the run had never been interrupted
    stop_requested: bool = False  # some rank got a signal; all ranks know
    out_of_time: bool = False
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
    def elapsed_minutes(self) -> float:
        """Return the time since the start of the run, without interruptions."""
        return (time.monotonic() - self.start_time) / 60

    @property
    def signalled(self) -> bool:
        """Return whether this rank got a signal."""
        return self.context.stop.signal_number is not None
