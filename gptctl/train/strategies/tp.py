"""Tensor parallelism: ranks of one machine share each block's matrices and see the same samples.

Shoeybi et al. 2019, "Megatron-LM", 3. Around the groups of such ranks, rows are sharded as in fsdp.py. Query, key,
value, up and gate are split by their outputs (heads, hidden units), output and down by their inputs. So one sum after
attention and one after the feed-forward part suffice, and in the backward pass one before each. The embedding of tokens
and the output head are split by tokens (gptctl/model/vocab_parallel.py). Learned positions, norms, routers and experts
are replicated within a group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    RowwiseParallel,
    parallelize_module,
)

from gptctl.core.context import Context
from gptctl.core.run_folder import Run
from gptctl.model.gpt import GPT
from gptctl.model.vocab_parallel import VocabShard
from gptctl.train.distributed.collectives import (
    MatrixFunction,
    all_reduce_in_buckets,
    broadcast_in_buckets,
    chunk_sizes,
)
from gptctl.train.distributed.launch import launch as launch_ranks
from gptctl.train.distributed.parallel_dims import ParallelDims, check_divisible
from gptctl.train.distributed.sharded_strategy import ShardedStrategy
from gptctl.train.job import Model, TrainJob, language_model, transformer_blocks
from gptctl.train.monitor.heartbeat_writer import HeartbeatWriter
from gptctl.train.strategies import RankFunction

TP_PLAN: dict[str, type[ParallelStyle]] = {
    "attention.query": ColwiseParallel,
    "attention.key": ColwiseParallel,
    "attention.value": ColwiseParallel,
    "attention.output": RowwiseParallel,
    "feed_forward.up": ColwiseParallel,
    "feed_forward.gate": ColwiseParallel,
    "feed_forward.down": RowwiseParallel,
}
# Replicated within a group, but each rank's gradient comes from its own heads only.
QK_NORMS = ("query_norm.weight", "key_norm.weight")


def launch(train_rank: RankFunction, job: TrainJob, run: Run, context: Context) -> dict[str, Any]:
    """Call train_rank with the strategy in each rank."""
    return launch_ranks(build, train_rank, job, run, context)


def build(job: TrainJob, device: torch.device, heartbeat_writer: HeartbeatWriter) -> TensorParallel:
    """Build the strategy of one rank."""
    dims = job.parallel_dims
    mesh = init_device_mesh(device.type, (dims.dp_shard, dims.tp), mesh_dim_names=("dp_shard", "tp"))
    # A single group has no rows to shard, but with bf16-master, FSDP is what keeps weights in two precisions.
    return TensorParallel(device, heartbeat_writer, dims, mesh, dims.dp_shard > 1 or job.precision == "bf16-master")


class TensorParallel(ShardedStrategy):
    """A rank that holds some heads and hidden units of each block, or a shard of their rows."""

    def __init__(
        self,
        device: torch.device,
        heartbeat_writer: HeartbeatWriter,
        dims: ParallelDims,
        mesh: DeviceMesh,
        shards_rows: bool,
    ) -> None:
        super().__init__(device, heartbeat_writer, dims, mesh["dp_shard"] if shards_rows else None)
        self.tp_mesh = mesh["tp"]
        self.dp_rank = mesh.get_local_rank("dp_shard")

    def prepare_model(self, model: Model, precision: str, compiled: bool) -> dict[str, nn.Parameter]:
        """Split a model's matrices among the ranks of a group, and shard them. Return this rank's shards by name."""
        check_divisible(model.config, self.dims.tp)
        for block in transformer_blocks(model):
            modules = dict(block.named_modules())
            plan: dict[str, ParallelStyle] = {name: style() for name, style in TP_PLAN.items() if name in modules}
            plan["attention"] = shared_input(others=4)
            if "feed_forward.up" in plan:
                plan["feed_forward"] = shared_input()
            parallelize_module(block, self.tp_mesh, plan)
        split_vocabulary(language_model(model), self.tp_mesh)
        return super().prepare_model(model, precision, compiled)

    def reduce_gradients(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Complete the gradients of what is replicated within a group, and move all gradients to the shards.

        On devices that add in no fixed order, replicas would drift apart over time. So the gradients of the group's
        first rank are copied to the others.
        """
        super().reduce_gradients(parameters)
        partial: list[Tensor] = []
        replicated: list[Tensor] = []
        for name, shard in parameters.items():
            if shard.grad is not None and self.split_dim(self.full_parameters[shard]) is None:
                (partial if name.endswith(QK_NORMS) else replicated).append(shard.grad)
        all_reduce_in_buckets(partial, self.tp_mesh.get_group())
        broadcast_in_buckets(replicated, self.tp_mesh.get_group())

    def all_reduce(self, values: Tensor) -> Tensor:
        """Return the sum of float64 values over all shares of a batch; the ranks of a group hold the same share."""
        return super().all_reduce(values) / self.dims.tp

    def map_matrices(
        self, function: MatrixFunction, shards: Sequence[Tensor], parameters: Sequence[nn.Parameter]
    ) -> list[Tensor]:
        """Apply a function to matrices of one shape, and return this rank's shards of the results.

        Rows are gathered on one rank of each position in a group. Then the ranks of the group gather their parts, and
        all of them compute the same full matrix.
        """
        results: list[Tensor] = list(shards)
        split_dims = [self.split_dim(self.full_parameters[parameter]) for parameter in parameters]
        for split_dim in sorted(set(split_dims), key=str):
            chosen = [index for index, other in enumerate(split_dims) if other == split_dim]
            mapped = super().map_matrices(
                self.on_split_matrices(function, split_dim),
                [shards[index] for index in chosen],
                [parameters[chosen[0]]],
            )
            for index, result in zip(chosen, mapped, strict=True):
                results[index] = result
        return results

    def on_split_matrices(self, function: MatrixFunction, split_dim: int | None) -> MatrixFunction:
        """Turn a function of full matrices into one of stacked matrices that the group splits along a dimension."""
        if split_dim is None:
            return function

        def gather_and_apply(parts: Tensor) -> Tensor:
            gathered = [torch.empty_like(parts) for _ in range(self.dims.tp)]
            dist.all_gather(gathered, parts.contiguous(), group=self.tp_mesh.get_group())
            full = function(torch.cat(gathered, dim=split_dim + 1))
            return full.chunk(self.dims.tp, dim=split_dim + 1)[self.tp_mesh.get_local_rank()]

        return gather_and_apply

    def split_dim(self, full: Tensor) -> int | None:
        """Return the dimension along which a group splits a parameter, or None if it is replicated."""
        if not isinstance(full, DTensor) or "tp" not in (full.device_mesh.mesh_dim_names or ()):
            return None
        placement = full.placements[-1]
        return None if placement.is_replicate() else placement.dim  # type: ignore[attr-defined]

    def sharded_rows(self, full: Tensor) -> int:
        """Count the rows of a parameter that are sharded over the groups: those of this rank's part."""
        return full.size(0) // (self.dims.tp if self.split_dim(full) == 0 else 1)


def shared_input(others: int = 0) -> ParallelStyle:
    """Return the style of a module whose first argument is whole on each rank; it has some `others` after that.

    The gradient of the argument is summed once over the ranks, and not once for each matrix that it is multiplied with.
    """
    layouts = (Replicate(), *[None] * others)
    return PrepareModuleInput(input_layouts=layouts, desired_input_layouts=layouts)


def split_vocabulary(model: GPT, mesh: DeviceMesh) -> None:
    """Split the rows of embedding and head over a mesh, of which the last rank has fewer if they cannot be divided."""
    for module in (model.embedding, model.head):
        if module is not None:
            weight = distribute_tensor(module.weight, mesh, (Shard(0),))
            module.weight = nn.Parameter(weight, module.weight.requires_grad)
    sizes = chunk_sizes(model.config.padded_vocab_size, mesh.size())
    model.vocab_shard = VocabShard(sum(sizes[: mesh.get_local_rank()]), mesh.get_group())
