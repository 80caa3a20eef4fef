"""Models and tensors on a CUDA device that does not exist: torch's fake tensors have shapes and devices, but no values.

An operation on tensors of two devices fails as on a real GPU. `Transfers` counts what is copied between host and
device, and collects the tensors that are made on the CPU.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

CUDA = torch.device("cuda:0")  # with an index, for which torch would ask the device
DEVICE_TYPE_CUDA, DEVICE_TYPE_META = 1, 14  # c10/core/DeviceType.h


class Transfers(TorchFunctionMode):
    """Counts transfers: `uploads` to the device, and `downloads` from it, each of which waits for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.uploads = self.downloads = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.tensor and kwargs.get("pin_memory"):  # what to_device copies
            self.uploads += 1
            return torch.empty(np.shape(args[0]), dtype=kwargs["dtype"], device=CUDA)
        if func in (Tensor.item, Tensor.cpu) or (func is Tensor.to and args[1:2] == ("cpu",)):
            args = (self.download(args[0]), *args[1:])
        on_host = bool(args) and isinstance(args[0], Tensor) and not isinstance(args[0], FakeTensor)
        if on_host or (func is torch.rand and "generator" in kwargs):  # the host draws the numbers of a sample
            with _disable_current_modes():  # type: ignore[no-untyped-call]
                return func(*args, **kwargs)
        return func(*args, **kwargs)

    def download(self, tensor: Tensor) -> Tensor:
        """Return zeros on the CPU for a fake tensor, which has no values."""
        if not isinstance(tensor, FakeTensor):
            return tensor
        self.downloads += 1
        with _disable_current_modes():  # type: ignore[no-untyped-call]
            return torch.zeros(tensor.shape, dtype=tensor.dtype)


class CpuTensors(TorchDispatchMode):
    """Collects the operations whose result is on the CPU.

    Kernels take single numbers by value, so they do not count, except in index_put, which copies its value first.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        copies = "index_put" in str(func)
        for tensor in pytree.tree_leaves((result, args) if copies else result):
            if isinstance(tensor, Tensor) and tensor.device.type == "cpu" and (tensor.dim() or copies):
                self.found.append(f"{func} {tuple(tensor.shape)}")
        return result


def allow_cuda_tensors() -> None:
    """Let a build of torch without CUDA make fake tensors on "cuda".

    FakeTensorMode does this in builds with CUDA: it installs a device guard that does nothing. The guard of the meta
    device does nothing, either.
    """
    if torch.version.cuda or torch.version.hip:
        return
    for library in (Path(torch.__file__).parent / "lib").glob("libc10.*"):
        guards = ctypes.c_void_p * (DEVICE_TYPE_META + 1)
        registry = guards.in_dll(ctypes.CDLL(str(library)), "_ZN3c104impl26device_guard_impl_registryE")
        registry[DEVICE_TYPE_CUDA] = registry[DEVICE_TYPE_META]


@contextmanager
def fake_cuda() -> Iterator[tuple[Transfers, CpuTensors]]:
    """Compute with fake tensors, which may be on "cuda", without gradients: a backward pass needs the real device."""
    allow_cuda_tensors()
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        for name in (
            "Event",
            "CUDAGraph",
            "graph",
            "graph_pool_handle",
            "current_stream",
            "set_stream",
        ):  # a graph is computed once, when it is recorded
            stack.enter_context(mock.patch(f"torch.cuda.{name}"))
        stack.enter_context(mock.patch.object(nn.Module, "to", lambda model, *where: model))
        stack.enter_context(FakeTensorMode())
        transfers = stack.enter_context(Transfers())
        # FakeTensor has a method of its own, which reads one number after the other.
        stack.enter_context(mock.patch.object(FakeTensor, "tolist", lambda tensor: transfers.download(tensor).tolist()))
        yield transfers, stack.enter_context(CpuTensors())


def on_fake_cuda(model: Any) -> Any:
    """Move a model to the fake device, within `fake_cuda`."""
    model._apply(lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype, device=CUDA))
    return model
