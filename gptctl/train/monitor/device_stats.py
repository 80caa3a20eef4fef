"""Device statistics: the peak speed, against which MFU is computed, and the memory that a run holds."""

from __future__ import annotations

import time
from functools import cache

import psutil
import torch

MEASURE_SECONDS = 0.3
PRODUCTS = 8
# Sides of square matrices: large enough to reach the peak, small enough for a few products on a slow machine.
SIDE = {"cuda": 8192, "mps": 4096, "cpu": 1024}


@cache
def peak_flops(device: torch.device, precision: str, threads: int) -> float:
    """Measure the floating-point operations per second of the fastest of some matrix products, in at most about 0.3 s.

    `threads` is the number that torch is set to, and only a key of the cache. Random numbers come from a generator of
    their own.
    """
    side = SIDE[device.type]
    generator = torch.Generator(device).manual_seed(0)
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    left, right = (torch.randn(side, side, generator=generator, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(left)
    torch.mm(left, right, out=out)
    synchronize(device)
    fastest, began = float("inf"), time.perf_counter()
    for _ in range(PRODUCTS):
        start = time.perf_counter()
        torch.mm(left, right, out=out)
        synchronize(device)
        fastest = min(fastest, time.perf_counter() - start)
        if time.perf_counter() - began > MEASURE_SECONDS:
            break
    return 2 * side**3 / fastest


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def memory_bytes(device: torch.device) -> int:
    """Return the memory of this process: the peak of tensors on a GPU, else what is resident now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    return psutil.Process().memory_info().rss
