"""The choice of a strategy where the user leaves it open."""

from __future__ import annotations

import psutil
import torch

from gptctl.core.errors import UsageError
from gptctl.model import device
from gptctl.train.job import TrainJob
from gptctl.train.planning.estimate import MEMORY_SHARE


def choose_strategy(job: TrainJob) -> str:
    """Return the name of a file in gptctl/train/strategies.

    For "auto", one rank is single. With `tp_size` it is tp. If the whole model fits beside its gradients, optimizer
    state and activations, it is ddp, which communicates least; else fsdp. Raises UsageError (2) for settings that
    contradict each other.
    """
    if job.tp_size > 1 and job.strategy not in ("auto", "tp"):
        raise UsageError(f"tp_size cannot be used with parallel={job.strategy}", "use parallel=tp, or leave one out")
    if job.world_size == 1:
        return "single"
    if job.strategy != "auto":
        return job.strategy
    if job.tp_size > 1:
        return "tp"
    available = available_memory(device.select_device(job.device), job.local_world_size)
    return "ddp" if job.memory_bytes <= MEMORY_SHARE * available else "fsdp"


def available_memory(device: torch.device, local_world_size: int) -> float:
    """Return the bytes that a rank may use."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(0).total_memory
    return psutil.virtual_memory().available / local_world_size
