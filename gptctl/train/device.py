"""Which device, and how fast it may be driven: fixed rules, recorded with the run and kept on resume."""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
from torch import nn

from gptctl.core.errors import MachineError, UsageError

BF16_MIN_WIDTH = 256  # on the CPU bf16 was 1.8 times faster at width 384 and 0.87 times at width 128 (Zen 4, 2 cores)


def pick(name: str, gpus: int = 0) -> torch.device:
    """Choose "auto" (the best there is), "cpu", "cuda" or "mps".

    Raises MachineError (4) if it, or as many GPUs as asked for, are not there.
    """
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus > found or (name == "cuda" and not found):
        raise MachineError(
            f"{max(gpus, 1)} GPUs asked for, {found} found", "use --device cpu, or --dry-run to see what it would need"
        )
    if name == "auto":
        name = "cuda" if found else "mps" if torch.backends.mps.is_available() and not gpus else "cpu"
    if name == "mps" and not torch.backends.mps.is_available():
        raise MachineError("no Apple GPU found", "use --device cpu")
    if name not in ("cpu", "cuda", "mps"):
        raise UsageError(f"no device is called '{name}'", "known: auto, cpu, cuda, mps")
    return torch.device(name)


def precision(device: torch.device, width: int) -> str:
    """Give "bf16" where it is known to be faster, else "fp32"."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    fast = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return "bf16" if fast and width >= BF16_MIN_WIDTH else "fp32"


def compiles(device: torch.device, choice: str) -> bool:
    """Tell whether blocks are compiled: "on", "off" or "auto", which does so on CUDA."""
    return choice == "on" or (choice == "auto" and device.type == "cuda")


def compile_each(modules: Iterable[nn.Module]) -> None:
    """Compile modules in place, each for itself: like ones share their code, and parameters keep their names."""
    for module in modules:
        module.compile()


def threads(ranks: int = 1) -> int:
    """Share the processors this process may use among the ranks of one machine; OMP_NUM_THREADS overrides."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, usable // ranks)


def prepare(thread_count: int) -> None:
    """Set the thread count and flush denormal numbers to zero, which CPUs compute 40 times slower.

    The flag is kept per thread, so it must stand before the first parallel operation.
    """
    torch.set_flush_denormal(True)
    torch.set_num_threads(thread_count)
