"""The choice of device, precision, compilation and threads, by fixed rules. Runs record the results and keep them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from gptctl.core.cpus import available_cpus
from gptctl.core.errors import MachineError, UsageError
from gptctl.model.malloc import keep_freed_memory

NAMES = ("auto", "cpu", "cuda", "mps")
# The hidden size from which bfloat16 is faster on a CPU that supports it: 1.8 times at 384, 0.87 times at 128 (Zen 4, 2
# cores). Newer CPUs, which have avx_vnni, have units twice as wide: 1.2 times at 128 (Zen 5). The output head of a
# usual vocabulary is most of a narrow model: with 8,192 tokens bfloat16 is 1.7 times as fast at 64.
BF16_MIN_HIDDEN_SIZE = 256
BF16_MIN_HIDDEN_SIZE_AVX_VNNI = 128
BF16_MIN_VOCAB_SIZE = 4096


def select_device(name: str, gpus: int = 0) -> torch.device:
    """Return the device called "cpu", "cuda" or "mps"; "auto" is the best one of this machine. `gpus` needs CUDA.

    Raises MachineError (4) if the machine does not have the device, or has fewer than `gpus` GPUs.
    """
    if name not in NAMES:
        raise UsageError(f"unknown device '{name}'", f"choose one of {', '.join(NAMES)}")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus > found or (name == "cuda" and not found):
        raise MachineError(
            f"{max(gpus, 1)} GPUs requested, {found} found", "use --device cpu, or --dry-run for an estimate"
        )
    has_mps = torch.backends.mps.is_available()
    if gpus:
        name = "cuda"
    elif name == "auto":
        name = "cuda" if found else "mps" if has_mps else "cpu"
    if name == "mps" and not has_mps:
        raise MachineError("no Apple GPU found", "use --device cpu")
    return torch.device(name)


def to_device(
    values: Sequence[object] | NDArray[Any], device: torch.device, dtype: torch.dtype = torch.int64
) -> Tensor:
    """Return numbers as a tensor on a device. The host does not wait for CUDA to copy them."""
    if device.type == "cpu":
        return torch.tensor(values, dtype=dtype)
    pinned = device.type == "cuda"  # it copies asynchronously only from page-locked memory
    return torch.tensor(values, dtype=dtype, pin_memory=pinned).to(device, non_blocking=pinned)


class HostCopy:
    """A copy of a tensor in the memory of the host. CUDA makes it while the host launches further work."""

    def __init__(self, tensor: Tensor) -> None:
        """Start the copy."""
        self.event = torch.cuda.Event() if tensor.is_cuda else None  # type: ignore[no-untyped-call]
        self.tensor = tensor.to("cpu", non_blocking=tensor.is_cuda)
        if self.event is not None:
            self.event.record()

    def wait(self) -> Tensor:
        """Return the copy when it is complete."""
        if self.event is not None:
            self.event.synchronize()
        return self.tensor


def memory_per_rank(device: torch.device, ranks: int) -> float:
    """Return the bytes of memory that each of `ranks` processes on this machine has."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(0).total_memory
    if device.type == "mps":
        return torch.mps.recommended_max_memory()
    return psutil.virtual_memory().total / ranks


def select_precision(device: torch.device, hidden_size: int, vocab_size: int) -> str:
    """Return "bf16" where it is known to be faster for a model of these sizes, else "fp32"."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    wide = torch.cpu.get_capabilities().get("avx_vnni")
    least = BF16_MIN_HIDDEN_SIZE_AVX_VNNI if wide else BF16_MIN_HIDDEN_SIZE
    is_large = hidden_size >= least or vocab_size >= BF16_MIN_VOCAB_SIZE
    return "bf16" if optimizer_precision(device) == "bf16" and device.type == "cpu" and is_large else "fp32"


def optimizer_precision(device: torch.device) -> str:
    """Return the precision of the optimizer's matrix products, for which bf16 is faster at any hidden size."""
    has_bf16 = device.type == "cuda" or (device.type == "cpu" and torch.cpu._is_avx512_bf16_supported())
    return "bf16" if has_bf16 else "fp32"


def should_compile(device: torch.device, choice: str) -> bool:
    """Return whether to compile the blocks: `choice` is "on", "off" or "auto", which compiles on CUDA."""
    return choice == "on" or (choice == "auto" and device.type == "cuda")


def to_double(tensor: Tensor) -> Tensor:
    """Return a tensor in float64, or in float32 on Apple GPUs, which have no float64."""
    return tensor.float() if tensor.device.type == "mps" else tensor.double()


def cpu_threads(ranks: int = 1) -> int:
    """Return the threads of one of `ranks` processes on this machine: an equal share of the available processors.

    OMP_NUM_THREADS overrides it.
    """
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    return max(1, available_cpus() // ranks)


def configure_process(threads: int) -> None:
    """Set the number of threads, keep freed memory, flush denormal numbers to zero, and hide a warning of torch.

    CPUs compute with denormal numbers 40 times slower. Call it before the first parallel operation, because each thread
    copies the flag when it starts.
    """
    # Under autocast, norms of queries and keys have values in bf16 and weights in fp32. Casting the values to use the
    # fused kernel takes longer than the several kernels that torch uses instead.
    warnings.filterwarnings("ignore", "Mismatch dtype between input and weight", UserWarning)
    keep_freed_memory()
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
