"""Simulation of one fully sharded step among many ranks, in one process and without their memory.

It proves before a run that a model can be sharded. torch's fake process group returns from every collective at once,
and fake tensors have shapes but no memory. So one process on a laptop does what rank 0 of a thousand would: gather,
forward, backward, reduce-scatter, update.
"""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from gptctl.core import plugins
from gptctl.model.config import ModelConfig
from gptctl.model.gpt import GPT
from gptctl.train.data.batch import Batch
from gptctl.train.distributed.parallel_dims import ParallelDims
from gptctl.train.distributed.sharded_strategy import ShardedStrategy
from gptctl.train.monitor.heartbeat_writer import HeartbeatWriter
from gptctl.train.objectives.language_model import LanguageModeling
from gptctl.train.planning.estimate import parameters_per_rank
from gptctl.train.recipe import Recipe
from gptctl.train.strategies import fsdp

LAYERS = 2  # of the model, at its full width: all blocks are alike
SEQ_LEN = 64


def simulate_step(model: ModelConfig, recipe: Recipe, dims: ParallelDims) -> dict[str, Any]:
    """Return what rank 0 holds after a step of the model's first layers, and what estimate.py predicts.

    Counts are of numbers, not bytes. If the model cannot be sharded, torch's error is raised.
    """
    small = model.model_copy(update={"layers": min(LAYERS, model.layers)})
    short = recipe.model_copy(update={"seq_len": min(SEQ_LEN, recipe.seq_len), "batch_size": dims.world_size})
    previous = os.environ.get("LOCAL_WORLD_SIZE")
    os.environ["LOCAL_WORLD_SIZE"] = str(dims.world_size)
    dist.init_process_group("fake", rank=0, world_size=dims.world_size)
    try:
        # The mesh cannot be built under FakeTensorMode.
        mesh = fsdp.build_mesh(dims, "cpu")
        strategy = ShardedStrategy(torch.device("cpu"), NoHeartbeat(), dims, mesh)
        with FakeTensorMode(allow_non_fake_inputs=True):
            parameters, optimizers = run_step(GPT(small), short, strategy)
        optimizer_numbers = sum(
            value.numel()
            for optimizer in optimizers
            for values in optimizer.state.values()
            for value in values.values()
            if isinstance(value, torch.Tensor)
        )
    finally:
        dist.destroy_process_group()
        os.environ.pop("LOCAL_WORLD_SIZE")
        if previous is not None:
            os.environ["LOCAL_WORLD_SIZE"] = previous
    return {
        "ranks": dims.world_size,
        "layers": small.layers,
        "parameters_per_rank": sum(shard.numel() for shard in parameters.values()),
        "gradients_per_rank": sum(shard.grad.numel() for shard in parameters.values() if shard.grad is not None),
        "optimizer_per_rank": optimizer_numbers,
        "estimated_parameters_per_rank": parameters_per_rank(small, dims),
    }


def run_step(model: GPT, recipe: Recipe, strategy: ShardedStrategy) -> tuple[dict[str, nn.Parameter], list[Any]]:
    """Shard the model and update it once. Return this rank's shards and the optimizers."""
    parameters = strategy.prepare_model(model, "fp32", compiled=False)
    batch = Batch.from_windows(torch.zeros(1, recipe.seq_len + 1, dtype=torch.long))
    objective = LanguageModeling(recipe.model_copy(update={"document_mask": False}))
    with torch.autocast("cpu", torch.bfloat16):  # fake tensors support the grouped matrix products of experts in bf16
        loss = objective.loss(model, batch).total
    loss.backward()  # type: ignore[no-untyped-call]
    strategy.reduce_gradients(parameters)
    optimizers = plugins.load("gptctl.train.optimizers", recipe.optimizer).build(parameters, recipe, strategy)
    for optimizer in optimizers:
        optimizer.step()
    return parameters, optimizers


class NoHeartbeat(HeartbeatWriter):
    """A heartbeat writer that writes nothing."""

    def __init__(self) -> None:
        """Start nothing."""

    def beat(self, step: int, phase: str) -> None:
        """Write nothing."""
