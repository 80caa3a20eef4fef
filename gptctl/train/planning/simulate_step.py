"""One fully sharded step among ranks that do not exist: proof, before it costs, that a model can be spread like that.

torch's fake process group answers every collective at once, and fake tensors have shapes but no memory, so that one
process on a laptop goes through what rank 0 of a thousand would: gather, forward, backward, spread, update.
"""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore

from gptctl.core import plugins
from gptctl.model.config import ModelConfig
from gptctl.model.gpt import GPT
from gptctl.train.distributed.sharded import Sharded
from gptctl.train.monitor.heartbeat import Pulse
from gptctl.train.objectives import language_model
from gptctl.train.planning.estimate import Layout, held
from gptctl.train.recipe import Recipe

LAYERS = 2  # of the model, at its full width: blocks are alike
SEQ_LEN = 64


def rehearse(model: ModelConfig, recipe: Recipe, ranks: int) -> dict[str, Any]:
    """Return what rank 0 of `ranks` holds after a step of the model's first layers, and what estimate.py says it does.

    Counts are of numbers, not bytes. Whatever cannot be spread raises what torch raises.
    """
    small = model.model_copy(update={"layers": min(LAYERS, model.layers)})
    short = recipe.model_copy(update={"seq_len": min(SEQ_LEN, recipe.seq_len), "batch_size": ranks})
    kept = os.environ.get("LOCAL_WORLD_SIZE")
    os.environ["LOCAL_WORLD_SIZE"] = str(ranks)
    dist.init_process_group("fake", rank=0, world_size=ranks, store=FakeStore())
    try:
        mesh = init_device_mesh("cpu", (ranks,), mesh_dim_names=("rows",))  # outside of fake tensors, or it raises
        engine = Sharded(torch.device("cpu"), Silent(), mesh)
        with FakeTensorMode(allow_non_fake_inputs=True):
            parameters, optimizers = step(GPT(small), short, engine)
        state = sum(
            value.numel()
            for optimizer in optimizers
            for values in optimizer.state.values()
            for value in values.values()
            if isinstance(value, torch.Tensor)
        )
    finally:
        dist.destroy_process_group()
        os.environ.pop("LOCAL_WORLD_SIZE")
        if kept is not None:
            os.environ["LOCAL_WORLD_SIZE"] = kept
    return {
        "ranks": ranks,
        "layers": small.layers,
        "parameters_per_rank": sum(part.numel() for part in parameters.values()),
        "gradients_per_rank": sum(part.grad.numel() for part in parameters.values() if part.grad is not None),
        "optimizer_per_rank": state,
        "estimated_parameters_per_rank": held(small, small.parameters(), Layout(ranks, "fsdp")),
    }


def step(model: GPT, recipe: Recipe, engine: Sharded) -> tuple[dict[str, torch.nn.Parameter], list[Any]]:
    """Spread the model and update it once; give this rank's parts and the optimizers."""
    parameters = engine.adopt(model, "fp32", compiled=False)
    windows = torch.zeros(1, recipe.seq_len + 1, dtype=torch.long)
    with torch.autocast("cpu", torch.bfloat16):  # grouped products of experts know fake tensors in bfloat16 only
        loss, _ = language_model.loss(model, windows, recipe.model_copy(update={"document_mask": False}))
    loss.backward()  # type: ignore[no-untyped-call]
    engine.reduce_gradients(parameters)
    optimizers = plugins.load("gptctl.train.optimizers", recipe.optimizer).build(parameters, recipe, engine)
    for optimizer in optimizers:
        optimizer.step()
    return parameters, optimizers


class Silent(Pulse):
    """A rank that nobody watches."""

    def __init__(self) -> None:
        """Start nothing."""

    def at(self, step: int, phase: str) -> None:
        """Say nothing."""
