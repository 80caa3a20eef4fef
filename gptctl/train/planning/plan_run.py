"""The arrangement of a training run, and for --dry-run what a step of it takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from gptctl.core.errors import UsageError
from gptctl.model.config import ModelConfig
from gptctl.train.distributed.parallel_dims import ParallelDims, check_divisible
from gptctl.train.planning.estimate import Layout, choose_eval_batch, choose_layout, estimate
from gptctl.train.planning.gpu_specs import Accelerator
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
    bf16_master: bool = False
    on_gpu: bool = False
    memory: float = math.inf  # bytes of each rank
    accelerator: Accelerator | None = None  # whose time is estimated

    def layout(self, strategy: str) -> Layout:
        """Return the layout of a strategy."""
        dims = ParallelDims.for_strategy(
            strategy, self.world_size, nodes=self.nodes, tp_size=self.tp_size, hybrid_shard=self.hybrid_shard
        )
        return Layout(dims, strategy, self.nodes, self.bf16, self.bf16_master, self.on_gpu)

    def strategies(self) -> tuple[str, ...]:
        """Return the strategies to choose from, the one that communicates least first.

        Raises UsageError (2) for settings that contradict each other.
        """
        if self.tp_size > 1 and self.strategy not in ("auto", "tp"):
            raise UsageError(
                f"tp_size cannot be used with parallel={self.strategy}", "use parallel=tp, or leave one out"
            )
        if self.world_size == 1:
            return ("single",)
        if self.strategy != "auto":
            return (self.strategy,)
        return ("tp",) if self.tp_size > 1 else ("ddp", "fsdp")


class Arrangement(NamedTuple):
    """How a run is divided: over its ranks, and each rank's share of a batch into forward passes."""

    layout: Layout
    micro_batch_size: int  # sequences
    eval_batch_size: int  # sequences


def arrange(model: ModelConfig, recipe: Recipe, options: PlanOptions) -> Arrangement:
    """Return the arrangement of a run, which --dry-run and the run itself share.

    The strategy is the first that fits into each rank's memory, and the micro-batch the largest that does. Raises
    UsageError (2) if the ranks, or the model, cannot be split as the user asks.
    """
    layouts = [options.layout(strategy) for strategy in options.strategies()]
    for layout in layouts:
        if layout.dims.tp > 1:
            check_divisible(model, layout.dims.tp)
    layout, micro = choose_layout(model, recipe, layouts, options.micro_batch_size, options.memory)
    return Arrangement(layout, micro, choose_eval_batch(model, recipe, layout, micro, options.memory))


def plan_run(model: ModelConfig, recipe: Recipe, options: PlanOptions) -> dict[str, Any]:
    """Return the estimate of a run. A sharded step is simulated, which raises torch's error if it is impossible."""
    layout, micro_batch_size, _ = arrange(model, recipe, options)
    plan = estimate(model, recipe, layout, micro_batch_size, options.accelerator)
    if layout.dims.dp_shard > 1 and layout.dims.tp == 1:
        from gptctl.train.planning.simulate_step import simulate_step  # imports torch

        plan["simulated_step"] = simulate_step(model, recipe, layout.dims)
    return plan
