"""Which device, and how fast it may be driven: fixed rules, recorded with the run and kept on resume."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable

import torch
from torch import nn

from gptctl.core.errors import MachineError, UsageError
from gptctl.core.machine import processors

# From which width bfloat16 is the faster one on a CPU that has it: 1.8 times at width 384, 0.87 times at width 128
# (Zen 4, 2 cores); with twice as wide units, which avx_vnni tells apart, 1.2 times at width 128 (Zen 5).
BF16_MIN_WIDTH = 256
BF16_MIN_WIDTH_WIDE = 128
# glibc's mallopt: blocks never mapped for themselves, the heap trimmed and grown in steps of 2 GiB and 256 MiB.
KEEP_MEMORY = {-4: 0, -1: 2**31 - 1, -2: 2**28}


def select_device(name: str, gpus: int = 0) -> torch.device:
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


def select_precision(device: torch.device, width: int) -> str:
    """Return "bf16" where it is known to be faster, else "fp32"."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    least = BF16_MIN_WIDTH_WIDE if torch.cpu.get_capabilities().get("avx_vnni") else BF16_MIN_WIDTH
    return "bf16" if optimizer_precision(device) == "bf16" and device.type == "cpu" and width >= least else "fp32"


def optimizer_precision(device: torch.device) -> str:
    """Return the number format of an optimizer's matrix products: with no more around them, bf16 wins at any width."""
    has_bf16 = device.type == "cuda" or (device.type == "cpu" and torch.cpu._is_avx512_bf16_supported())
    return "bf16" if has_bf16 else "fp32"


def should_compile(device: torch.device, choice: str) -> bool:
    """Return whether blocks are compiled: "on", "off" or "auto", which does so on CUDA."""
    return choice == "on" or (choice == "auto" and device.type == "cuda")


def compile_modules(modules: Iterable[nn.Module]) -> None:
    """Compile modules in place, each for itself: like ones share their code, and parameters keep their names."""
    for module in modules:
        module.compile()


def cpu_threads(ranks: int = 1) -> int:
    """Share the processors this process may use among the ranks of one machine; OMP_NUM_THREADS overrides."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    return max(1, processors() // ranks)


def configure_process(thread_count: int) -> None:
    """Set the thread count, keep freed memory, and flush denormal numbers to zero: CPUs compute them 40 times slower.

    The flag is kept per thread, so it must stand before the first parallel operation.
    """
    keep_freed_memory()
    torch.set_flush_denormal(True)
    torch.set_num_threads(thread_count)


def keep_freed_memory() -> None:
    """Tell glibc to hand freed memory out again rather than give it back: every step asks for the same tensors.

    Each page that comes from the kernel costs a fault: a tenth to a quarter of the time of a step (width 384).
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option is not None:  # other C libraries have none
        for option, value in KEEP_MEMORY.items():
            set_option(option, value)
