"""The number of threads of the kernels, and of torch beside them.

torch's threads wait actively for their next work, and keep the kernels' threads from the processors meanwhile. So torch
computes the little that is left of a step with one thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Kernels(threading.local):
    """The threads of the kernels that this thread calls; 0 is torch's number."""

    count = 0


KERNELS = Kernels()


def kernel_threads() -> int:
    """Return the number of threads that kernels compute with."""
    return KERNELS.count or torch.get_num_threads()


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch compute with a number of threads in this thread. That of the kernels stays."""
    before = torch.get_num_threads(), KERNELS.count
    KERNELS.count = kernel_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        KERNELS.count = before[1]
