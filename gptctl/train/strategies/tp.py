"""Tensor parallelism: ranks of one machine share each block's matrices and see the same samples (Shoeybi et al. 2019,
"Megatron-LM", 3); around it, rows are spread over groups of such ranks as in strategies/fsdp.py.

Query, key, value, up and gate are cut by their outputs (heads, hidden units), output and down by their inputs, so one
sum after attention and one after the feed-forward part suffice. Embeddings, head, norms, routers and experts are whole
on each rank of a group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, parallelize_module

from gptctl.core.context import Context
from gptctl.core.errors import UsageError
from gptctl.core.rundir import Run
from gptctl.model.config import ModelConfig
from gptctl.train.distributed.collectives import OnMatrices, add_up, copy_from_first
from gptctl.train.distributed.launch import Fit
from gptctl.train.distributed.launch import launch as launch_ranks
from gptctl.train.distributed.sharded import Sharded
from gptctl.train.job import Model, TrainJob, blocks
from gptctl.train.monitor.heartbeat import Pulse

PLAN: dict[str, type[ParallelStyle]] = {
    "attention.query": ColwiseParallel,
    "attention.key": ColwiseParallel,
    "attention.value": ColwiseParallel,
    "attention.output": RowwiseParallel,
    "feed_forward.up": ColwiseParallel,
    "feed_forward.gate": ColwiseParallel,
    "feed_forward.down": RowwiseParallel,
}
HEAD_NORMS = ("query_norm.weight", "key_norm.weight")  # whole, but each rank's gradient comes from its own heads


def launch(fit: Fit, job: TrainJob, run: Run, context: Context) -> dict[str, Any]:
    """Call `fit` with an engine in each rank."""
    size = job.tensor_parallel or job.local_ranks
    if job.local_ranks % size:
        raise UsageError(
            f"{job.local_ranks} processes of a machine cannot be cut into groups of tensor_parallel {size}",
            "set tensor_parallel to a divisor of gpus or procs",
        )
    return launch_ranks(make, fit, job, run, context)


def make(job: TrainJob, device: torch.device, pulse: Pulse) -> TensorParallel:
    """Make the engine of one rank."""
    size = job.tensor_parallel or job.local_ranks
    shape, names = (job.ranks // size, size), ("rows", "tensor")
    return TensorParallel(device, pulse, init_device_mesh(device.type, shape, mesh_dim_names=names))


class TensorParallel(Sharded):
    """A rank that holds its heads and hidden units of each block, or its rows of those."""

    def __init__(self, device: torch.device, pulse: Pulse, mesh: DeviceMesh) -> None:
        super().__init__(device, pulse, mesh["rows"] if mesh["rows"].size() > 1 else None)
        self.tensor = mesh["tensor"]
        self.data_rank, self.data_ranks = mesh.get_local_rank("rows"), mesh["rows"].size()

    def adopt(self, model: Model, precision: str, compiled: bool) -> dict[str, nn.Parameter]:
        """Cut a model's matrices among the ranks of a group; give this rank's parts of its parameters by name."""
        check(model.config, self.tensor.size())
        model.to(self.device)
        for block in blocks(model):
            plan = {name: style() for name, style in PLAN.items() if name in dict(block.named_modules())}
            parallelize_module(block, self.tensor, plan)
        return super().adopt(model, precision, compiled)

    def reduce_gradients(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Complete the gradients of what each rank of a group holds whole, and hand all to the parts.

        Copies would drift apart over time where a device adds in no fixed order, so they follow the first one.
        """
        super().reduce_gradients(parameters)
        partial: list[Tensor] = []
        copied: list[Tensor] = []
        for name, part in parameters.items():
            if part.grad is not None and self.cut(self.wholes[part]) is None:
                (partial if name.endswith(HEAD_NORMS) else copied).append(part.grad)
        add_up(partial, self.tensor.get_group())
        copy_from_first(copied, self.tensor.get_group())

    def sum(self, values: Tensor) -> Tensor:
        """Add float64 values up over all shares of the batch; the ranks of a group hold the same share."""
        return super().sum(values) / self.tensor.size()

    def on_matrices(
        self, function: OnMatrices, pieces: Sequence[Tensor], parameters: Sequence[nn.Parameter]
    ) -> list[Tensor]:
        """Apply a function to matrices of one shape: rows come together at one rank of each position in a group, then
        the group's ranks put their cuts together, and all of them work on the same matrix."""
        done: list[Tensor] = list(pieces)
        cuts = [self.cut(self.wholes[parameter]) for parameter in parameters]
        for cut in sorted(set(cuts), key=str):
            chosen = [index for index, other in enumerate(cuts) if other == cut]
            results = super().on_matrices(
                self.on_cuts(function, cut), [pieces[index] for index in chosen], [parameters[chosen[0]]]
            )
            for index, result in zip(chosen, results, strict=True):
                done[index] = result
        return done

    def on_cuts(self, function: OnMatrices, cut: int | None) -> OnMatrices:
        """Make a function of whole matrices one of stacked matrices cut along dimension `cut`."""
        if cut is None:
            return function

        def joined(cuts: Tensor) -> Tensor:
            gathered = [torch.empty_like(cuts) for _ in range(self.tensor.size())]
            dist.all_gather(gathered, cuts.contiguous(), group=self.tensor.get_group())
            return function(torch.cat(gathered, dim=cut + 1)).chunk(self.tensor.size(), dim=cut + 1)[
                self.tensor.get_local_rank()
            ]

        return joined

    def cut(self, whole: Tensor) -> int | None:
        """Return the dimension along which a group cuts a parameter."""
        if not isinstance(whole, DTensor) or "tensor" not in (whole.device_mesh.mesh_dim_names or ()):
            return None
        placement = whole.placements[-1]
        return None if placement.is_replicate() else placement.dim  # type: ignore[attr-defined]

    def rows(self, whole: Tensor) -> int:
        """Count the rows that are spread over the groups: those of this rank's cut."""
        return whole.size(0) // (self.tensor.size() if self.cut(whole) == 0 else 1)


def check(config: ModelConfig, size: int) -> None:
    """Raise UsageError (2) if heads or hidden units cannot be cut into `size` equal parts."""
    for name, count in (
        ("heads", config.heads),
        ("kv_heads", config.resolved_kv_heads),
        ("intermediate_size", config.intermediate_size),
    ):
        if count % size:
            raise UsageError(
                f"model.{name} {count} cannot be cut into tensor_parallel {size} parts", "choose a divisor of it"
            )
