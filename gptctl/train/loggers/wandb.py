"""Logger for Weights & Biases. Files are kept in RUN/wandb; WANDB_MODE=offline sends nothing until `wandb sync`."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

from gptctl.core import atomic
from gptctl.core.errors import MachineError
from gptctl.core.extras import require

ID_FILE = "run-id.txt"  # in RUN/wandb, so that a resumed run continues its curves


def check() -> None:
    """Raise MachineError (4) if the package is not installed."""
    require("wandb")


def build(run: Path, step: int) -> WandbLogger:
    """Open the logger of a run folder, which starts or resumes at `step`."""
    return WandbLogger(run)


class WandbLogger:
    """Sends events to a run of wandb, over the training step. WANDB_PROJECT and its other variables are honoured."""

    def __init__(self, run: Path) -> None:
        check()
        self.wandb: Any = import_module("wandb")
        try:
            self.run = self.wandb.init(
                project=os.environ.get("WANDB_PROJECT", "gptctl"),
                name=run.name,
                id=run_id(run / "wandb"),
                resume="allow",
                dir=str(run),
                settings=self.wandb.Settings(console="off", silent=True, save_code=False, disable_git=True),
            )
        except self.wandb.Error as error:
            hint = "run wandb login, or set WANDB_MODE=offline"
            raise MachineError(f"wandb cannot be used: {error}", hint) from error
        # Steps that are repeated after a resume or a rollback would be refused as wandb's own step.
        self.run.define_metric("step", hidden=True)
        self.run.define_metric("*", step_metric="step")

    def log_event(self, kind: str, step: int, fields: dict[str, Any]) -> None:
        """Send numbers and strings as train/loss, eval/val_loss and so on."""
        group = "train" if kind == "step" else kind
        values = {f"{group}/{name}": value for name, value in fields.items() if isinstance(value, int | float | str)}
        try:
            self.run.log(values | {"step": step})
        except self.wandb.Error as error:
            raise OSError(str(error)) from error

    def close(self) -> None:
        """Flush everything and close."""
        self.run.finish()


def run_id(folder: Path) -> str:
    """Return the identifier of a run, which is chosen when its logger is first opened."""
    path = folder / ID_FILE
    if not path.exists():
        atomic.write_text(path, uuid4().hex[:12])
    return path.read_text()
