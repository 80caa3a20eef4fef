"""The plan of a pretraining run for --dry-run: layout, micro-batch size, and what a step takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from gptctl.model.config import ModelConfig
from gptctl.train.distributed.parallel_dims import ParallelDims
from gptctl.train.planning.estimate import Layout, choose_layout, estimate
from gptctl.train.planning.gpu_specs import GPU_SPECS, Accelerator
from gptctl.train.recipe import Recipe


@dataclass(frozen=True)
class PlanOptions:
    """The ranks of a run, as the user asks for them, and the hardware."""

    strategy: str  # auto, or a file in gptctl/train/strategies
    world_size: int
    nodes: int
    tp_size: int
    hybrid_shard: bool
    micro_batch_size: int
    bf16: bool
    bf16_master: bool
    accelerator: Accelerator | None  # None is the CPU

    def layout(self, strategy: str) -> Layout:
        """Return the layout of a strategy."""
        dims = ParallelDims.for_strategy(
            strategy, self.world_size, nodes=self.nodes, tp_size=self.tp_size, hybrid_shard=self.hybrid_shard
        )
        return Layout(dims, strategy, self.nodes, self.bf16, self.bf16_master)


def plan_run(model: ModelConfig, recipe: Recipe, options: PlanOptions) -> dict[str, Any]:
    """Return the estimate of a run. A sharded step is simulated, which raises torch's error if it is impossible."""
    candidates = ("ddp", "fsdp") if options.strategy == "auto" else (options.strategy,)
    layouts = [options.layout(strategy) for strategy in candidates]
    memory = GPU_SPECS[options.accelerator].memory if options.accelerator else math.inf
    layout, micro_batch_size = choose_layout(model, recipe, layouts, options.micro_batch_size, memory)
    plan = estimate(model, recipe, layout, micro_batch_size, options.accelerator)
    if layout.dims.dp_shard > 1 and layout.dims.tp == 1:
        from gptctl.train.planning.simulate_step import simulate_step  # imports torch

        plan["simulated_step"] = simulate_step(model, recipe, layout.dims)
    return plan


def replicated_memory(model: ModelConfig, recipe: Recipe, world_size: int, micro_batch_size: int) -> int:
    """Return the bytes that a rank needs if every rank holds the whole model."""
    layout = Layout(ParallelDims(dp_replicate=world_size))
    needed: int = estimate(model, recipe, layout, micro_batch_size)["memory_bytes_per_rank"]
    return needed
