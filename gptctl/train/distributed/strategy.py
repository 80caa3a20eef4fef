"""Which engine trains a job, where the user leaves it open."""

from __future__ import annotations

import psutil
import torch

from gptctl.core.errors import UsageError
from gptctl.model import device
from gptctl.train.job import TrainJob
from gptctl.train.planning.estimate import ROOM_SHARE


def choose(job: TrainJob) -> str:
    """Return the name of a file in strategies/.

    auto: one rank is single; where tensor_parallel is set, tp; where all of the model fits beside its gradients,
    optimizer state and activations, ddp, which communicates least; else fsdp.
    Raises UsageError (2) for settings that contradict each other.
    """
    if job.tensor_parallel > 1 and job.parallel not in ("auto", "tp"):
        raise UsageError(
            f"tensor_parallel does not go with parallel {job.parallel}", "set parallel to tp, or leave one out"
        )
    if job.ranks == 1:
        return "single"
    if job.parallel != "auto":
        return job.parallel
    if job.tensor_parallel > 1:
        return "tp"
    return "ddp" if job.memory_bytes <= ROOM_SHARE * room(device.select_device(job.device), job.local_ranks) else "fsdp"


def room(chosen: torch.device, local_ranks: int) -> float:
    """Return the bytes that a rank may use."""
    if chosen.type == "cuda":
        return torch.cuda.get_device_properties(0).total_memory
    return psutil.virtual_memory().available / local_ranks
