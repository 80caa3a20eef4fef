"""Logger for TensorBoard: curves in RUN/tensorboard, shown by `tensorboard --logdir RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gptctl.core.extras import require


def check() -> None:
    """Raise MachineError (4) if the package is not installed."""
    require("tensorboard")


def build(run: Path, step: int) -> TensorBoardLogger:
    """Open the logger of a run folder, which starts or resumes at `step`."""
    return TensorBoardLogger(run, step)


class TensorBoardLogger:
    """Writes events as curves and texts. What an interrupted run logged after the step it resumes from is hidden."""

    def __init__(self, run: Path, step: int) -> None:
        check()
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1 if step else None)

    def log_event(self, kind: str, step: int, fields: dict[str, Any]) -> None:
        """Write numbers as curves named train/loss, eval/val_loss and so on, and strings as texts."""
        for name, value in fields.items():
            if isinstance(value, str):
                self.writer.add_text(f"{kind}/{name}", value, step)
            elif isinstance(value, int | float):
                self.writer.add_scalar(f"{'train' if kind == 'step' else kind}/{name}", value, step)

    def close(self) -> None:
        """Flush everything and close."""
        self.writer.close()
