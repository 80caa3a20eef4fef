"""The memory that training needs at its peak: measured on a GPU, or counted on tensors without memory."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from gptctl.core import plugins
from gptctl.model.config import ModelConfig
from gptctl.model.gpt import GPT
from gptctl.train.data.batch import Batch
from gptctl.train.objectives.language_model import LanguageModeling
from gptctl.train.recipe import Recipe
from gptctl.train.strategies.single import SingleDevice

STEPS = 2  # the optimizer's state exists from the second step on
MICRO_BATCHES = 2  # the gradients of the first exist during the second


class MemoryCounter(TorchDispatchMode):
    """Counts the bytes of all tensors that are made while it is active, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.known: weakref.WeakSet[Any] = weakref.WeakSet()
        self.bytes = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for value in tree_iter(found):
            if isinstance(value, Tensor):
                self.count(value.untyped_storage())
        return found

    def count(self, storage: Any) -> None:
        """Count a storage until it is freed."""
        if storage in self.known:
            return
        self.known.add(storage)
        size = storage.nbytes()
        self.bytes += size
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self.free, size)

    def free(self, size: int) -> None:
        """Stop counting a storage."""
        self.bytes -= size


def measured_peak(model: ModelConfig, recipe: Recipe, micro: int, bf16: bool) -> int:
    """Return the bytes that training with micro-batches of this size takes at its peak on the GPU."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    train(model, recipe, micro, bf16, torch.device("cuda"))
    return torch.cuda.max_memory_allocated() - before


def counted_peak(model: ModelConfig, recipe: Recipe, micro: int, bf16: bool) -> int:
    """Return the bytes of all tensors at the peak of the same training, without their memory."""
    counter = MemoryCounter()
    with FakeTensorMode(allow_non_fake_inputs=True), counter:
        train(model, recipe, micro, bf16, torch.device("cpu"))
    return counter.peak


def train(model: ModelConfig, recipe: Recipe, micro: int, bf16: bool, device: torch.device) -> None:
    """Do some steps of two micro-batches, as the training loop does."""
    strategy, precision = SingleDevice(device), "bf16" if bf16 else "fp32"
    with device:
        network = GPT(model)
    parameters = dict(network.named_parameters())
    if device.type == "cuda":  # compiled, as runs on a GPU are
        torch._dynamo.reset()
        parameters = strategy.prepare_model(network, precision, True)
    objective = LanguageModeling(recipe)
    optimizers = plugins.load("gptctl.train.optimizers", recipe.optimizer).build(
        parameters, recipe, strategy, precision
    )
    network.train()
    for _ in range(STEPS):
        for _ in range(MICRO_BATCHES):
            batch = Batch.from_windows(torch.zeros(micro, recipe.seq_len + 1, dtype=torch.long)).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                loss = objective.loss(network, batch).total
            loss.backward()  # type: ignore[no-untyped-call]
            del loss
        torch._foreach_mul_([parameter.grad for parameter in parameters.values()], 0.5)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
