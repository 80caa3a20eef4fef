"""A training run on a node that another node leads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gptctl.core.context import Context
from gptctl.core.errors import MachineError
from gptctl.core.run_folder import Run
from gptctl.train import loop
from gptctl.train.distributed.nodes import Nodes
from gptctl.train.job import TrainJob


def follow_leader(
    nodes: Nodes, make_job: Callable[[], TrainJob], folder: Path, stage: str, context: Context
) -> dict[str, Any] | None:
    """Train with this node's processes and return the metrics; None if the run in `folder` was complete already.

    Raises MachineError (4) if the leading node ended before it trained.
    """
    if nodes.wait_for_training(context.stop):
        return loop.train(make_job(), Run(folder, stage, {}), context)
    if not has_model(folder):
        raise MachineError(f"the node at {nodes.endpoint} ended before it trained", "see its messages")
    return None


def has_model(folder: Path) -> bool:
    """Return whether a finished run still has its model."""
    return (folder / "model" / "model.safetensors").exists()
