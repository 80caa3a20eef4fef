"""How fast this machine could multiply matrices, and how much memory a run holds."""

from __future__ import annotations

import time
from functools import cache

import psutil
import torch

MEASURE_SECONDS = 0.3
PRODUCTS = 8
# Sides of square matrices: large enough to reach the peak, small enough that a slow machine gets through a few.
SIDE = {"cuda": 8192, "mps": 4096, "cpu": 1024}


@cache
def matrix_peak(device: torch.device, precision: str, threads: int) -> float:
    """Measure the floating-point operations per second of the best of some matrix products, in at most about 0.3 s.

    `threads` is what torch is set to; another count would be another peak. Draws from a generator of its own.
    """
    side = SIDE[device.type]
    generator = torch.Generator(device).manual_seed(0)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(side, side, generator=generator, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(left)
    torch.mm(left, right, out=out)
    wait(device)
    best, began = float("inf"), time.perf_counter()
    for _ in range(PRODUCTS):
        start = time.perf_counter()
        torch.mm(left, right, out=out)
        wait(device)
        best = min(best, time.perf_counter() - start)
        if time.perf_counter() - began > MEASURE_SECONDS:
            break
    return 2 * side**3 / best


def wait(device: torch.device) -> None:
    """Let the device finish."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def memory_bytes(device: torch.device) -> int:
    """Return the memory of this process: the most that tensors held on a GPU, else what is resident now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    return psutil.Process().memory_info().rss
