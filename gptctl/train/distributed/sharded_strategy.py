"""The base of strategies whose ranks hold a shard of each parameter, gradient and optimizer state: fsdp and tp.

The model's parameters are DTensors, which know how all ranks hold them together. Optimizers see each rank's shards as
plain tensors over the same memory. An element-wise update like AdamW's is the same for a shard as for the full
parameter. An optimizer that needs full matrices (Muon) calls `map_matrices`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from gptctl.model import device
from gptctl.model.moe import Router
from gptctl.model.tensor_part import TensorPart
from gptctl.train.distributed.base_strategy import DistributedStrategy
from gptctl.train.distributed.collectives import MatrixFunction, chunk_sizes, map_sharded_matrices, squared_norm
from gptctl.train.distributed.parallel_dims import ParallelDims
from gptctl.train.job import Model, allocate, language_model, transformer_blocks
from gptctl.train.monitor.heartbeat_writer import HeartbeatWriter

BF16_DEVICES = ("cuda",)  # whose blocks are gathered in bfloat16
DEFERRED_SHARE = 0.05  # of a GPU's memory that full gradients may take: 1.7 billion parameters on an H200


class ShardedStrategy(DistributedStrategy):
    """Shards rows over the mesh dimension "dp_shard". Without a mesh, rows are not sharded."""

    def __init__(
        self, device: torch.device, heartbeat_writer: HeartbeatWriter, dims: ParallelDims, mesh: DeviceMesh | None
    ) -> None:
        super().__init__(device, heartbeat_writer, dims)
        self.mesh = mesh
        self.full_parameters: dict[nn.Parameter, nn.Parameter] = {}  # the model's parameter of each shard
        self.deferring: list[FSDPModule] = []  # models whose gradients are summed in the last backward pass alone

    def prepare_model(self, model: Model, precision: str, compiled: bool) -> dict[str, nn.Parameter]:
        """Shard a model over the ranks, allocate this rank's shards without values, and return them by name."""
        if compiled:
            language_model(model).compile_parts()
        if self.mesh is not None:
            apply_fsdp(model, self.mesh, precision)
            if self.may_defer_sums(model):
                assert isinstance(model, FSDPModule)
                self.deferring.append(model)
        allocate(model, self.device)
        shards = {}
        for name, full in model.named_parameters():
            shards[name] = nn.Parameter(local_shard(full.detach()), full.requires_grad)
            self.full_parameters[shards[name]] = full
        return shards

    def may_defer_sums(self, model: Model) -> bool:
        """Return whether a rank may hold the full gradients of a model, so that it sends them once per batch.

        It may if they take little of a GPU's memory. On the CPU the order of additions would change for nothing.
        """
        if self.device.type != "cuda":
            return False
        memory = torch.cuda.get_device_properties(self.device).total_memory
        return 4 * sum(parameter.numel() for parameter in model.parameters()) <= DEFERRED_SHARE * memory

    def start_backward(self, is_last: bool) -> None:
        """Let the models that may wait with the sum of their gradients wait for the last backward pass."""
        for model in self.deferring:
            model.set_requires_gradient_sync(is_last)

    def update_model(self) -> None:
        """Do nothing: the model's parameters are the shards, and rounded when they are gathered."""

    def reduce_gradients(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Move the gradients, which the backward pass has summed over ranks, to the shards."""
        for shard in parameters.values():
            full = self.full_parameters[shard]
            shard.grad = None if full.grad is None else local_shard(full.grad)
            full.grad = None

    def squared_grad_norm(self, parameters: Iterable[nn.Parameter]) -> Tensor:
        """Return this rank's part of the squared norm of the gradient. What several ranks hold counts once."""
        by_copies: dict[int, list[Tensor]] = {}
        for shard in parameters:
            if shard.grad is not None:
                by_copies.setdefault(self.copies(self.full_parameters[shard]), []).append(shard.grad)
        sums = [squared_norm(gradients) / copies for copies, gradients in by_copies.items()]
        total = torch.stack(sums).sum() if sums else device.to_double(torch.zeros((), device=self.device))
        return total * (self.dims.world_size // self.dims.dp_size)  # `all_reduce` counts the ranks of one share as one

    def copies(self, full: Tensor) -> int:
        """Count the ranks that hold the same shard of a parameter."""
        shards = 1
        if isinstance(full, DTensor):
            for size, placement in zip(full.device_mesh.shape, full.placements, strict=True):
                shards *= 1 if placement.is_replicate() else size
        return self.dims.world_size // shards

    def as_dtensor(self, parameter: nn.Parameter, values: Tensor) -> Tensor:
        """Return values of one of this rank's shards as the tensor that all ranks hold together."""
        full = self.full_parameters[parameter]
        if not isinstance(full, DTensor) or self.dims.world_size == 1:
            return values
        return DTensor.from_local(
            values, full.device_mesh, full.placements, run_check=False, shape=full.shape, stride=full.stride()
        )

    def part_of(self, parameter: nn.Parameter) -> TensorPart:
        """Return one of this rank's shards as a part of the full parameter."""
        full = self.full_parameters[parameter]
        if not isinstance(full, DTensor):
            return TensorPart.whole(parameter.detach())
        sizes, offsets = compute_local_shape_and_global_offset(full.shape, full.device_mesh, full.placements)
        place = tuple(slice(offset, offset + size) for offset, size in zip(offsets, sizes, strict=True))
        return TensorPart(parameter.detach(), full.shape, place)

    def full_shape(self, parameter: nn.Parameter) -> torch.Size:
        """Return the shape of the parameter that a shard belongs to."""
        return self.full_parameters[parameter].shape

    def map_matrices(
        self, function: MatrixFunction, shards: Sequence[Tensor], parameters: Sequence[nn.Parameter]
    ) -> list[Tensor]:
        """Apply a function to matrices of one shape: each is gathered on one rank, and its result sent back."""
        if self.mesh is None:
            return list(function(torch.stack(list(shards))))
        mesh, full = self.mesh["dp_shard"], self.full_parameters[parameters[0]]
        if not is_sharded_inside(full):
            rows = chunk_sizes(self.sharded_rows(full), mesh.size())
            return map_sharded_matrices(function, shards, rows, mesh.get_group())
        rows = chunk_sizes(full.size(1), mesh.size())
        matrices = [matrix for shard in shards for matrix in shard.unbind()]
        results = map_sharded_matrices(function, matrices, rows, mesh.get_group())
        experts = full.size(0)
        return [torch.stack(results[first : first + experts]) for first in range(0, len(results), experts)]

    def sharded_rows(self, full: Tensor) -> int:
        """Count the rows of a parameter that are sharded over the mesh."""
        return full.size(0)


def local_shard(tensor: Tensor) -> Tensor:
    """Return this rank's shard of a tensor, in the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def is_sharded_inside(full: Tensor) -> bool:
    """Return whether the ranks of dp_shard share each matrix of a stack, rather than sharing out the matrices."""
    if not isinstance(full, DTensor):
        return False
    names = full.device_mesh.mesh_dim_names or ()
    return "dp_shard" in names and full.placements[names.index("dp_shard")].is_shard(1)


def expert_placement(parameter: nn.Parameter, ranks: int) -> Shard | None:
    """Return how stacked experts (E, rows, columns) are sharded; None shards any parameter's first dimension.

    If the experts cannot be shared out evenly, each rank gets some rows of every expert. Otherwise only E of, say, 64
    ranks would hold experts. FSDP requires that the rows can be divided.
    """
    is_stack = parameter.ndim == 3
    return Shard(1) if is_stack and parameter.size(0) % ranks and parameter.size(1) % ranks == 0 else None


def apply_fsdp(model: Model, mesh: DeviceMesh, precision: str) -> None:
    """Shard each parameter's rows over the last dimension of a mesh, and replicate over the first if there are two.

    The rows of stacked experts are whole experts, or rows of every expert (`expert_placement`).

    Zhao et al. 2023, "PyTorch FSDP". A block's parameters are gathered for its forward pass and again for its backward
    pass, and its gradients are summed right after. On a GPU, blocks are gathered in bfloat16; routers, embeddings, head
    and the residual stream stay in float32, as under autocast. With bf16-master, all but routers is gathered in
    bfloat16 on every device.
    """
    narrow = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    block_policy = root_policy = MixedPrecisionPolicy()
    if precision == "bf16-master":
        block_policy = root_policy = narrow
    elif precision == "bf16" and mesh.device_type in BF16_DEVICES:
        block_policy = narrow
    policies: dict[nn.Module, MixedPrecisionPolicy] = {}
    for block in transformer_blocks(model):
        if block_policy is narrow:
            routers = (module for module in block.modules() if isinstance(module, Router))
            policies |= dict.fromkeys(routers, MixedPrecisionPolicy())
        policies[block] = block_policy
    policies[model] = root_policy
    placement = partial(expert_placement, ranks=mesh.size(mesh.ndim - 1))
    for module, policy in policies.items():
        fully_shard(module, mesh=mesh, mp_policy=policy, shard_placement_fn=placement)
        assert isinstance(module, FSDPModule)
        module.set_gradient_divide_factor(1.0)  # the loop divides, by the number of targets
        module.set_force_sum_reduction_for_comms(True)
