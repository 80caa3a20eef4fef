"""Tensors of devices that this machine does not have: they have shapes and devices, but no memory."""

from __future__ import annotations

from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode


def fake_devices() -> FakeTensorMode:
    """Return a mode in which every tensor is fake, and operations on several devices raise an error as they do on GPUs."""
    return FakeTensorMode(allow_non_fake_inputs=True)


class NoDoubleOnMps(TorchDispatchMode):
    """Refuses tensors in double precision on an Apple GPU, as torch does there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor) and found.device.type == "mps" and found.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return found
