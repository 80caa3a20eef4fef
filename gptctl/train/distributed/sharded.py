"""Ranks that hold a shard of each parameter, gradient and optimizer state: shared by the fsdp and tp strategies.

The model's parameters are DTensors, which know how all ranks hold them together. Optimizers see each rank's parts as
plain tensors over the same memory: an element-wise update like AdamW's is the same for a part as for the whole, whoever
holds it, and what needs whole matrices (Muon) asks for them with `on_matrices`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from gptctl.model import device
from gptctl.train.distributed.collectives import OnMatrices, chunk_sizes, share_out_rows, square_sum
from gptctl.train.distributed.ranks import Ranks
from gptctl.train.job import Model, blocks
from gptctl.train.monitor.heartbeat import Pulse


class Sharded(Ranks):
    """A rank that holds a part of the model. Rows are spread over the mesh's dimension "rows", if there is a mesh."""

    whole = False

    def __init__(self, device: torch.device, pulse: Pulse, mesh: DeviceMesh | None) -> None:
        super().__init__(device, pulse)
        self.mesh = mesh
        self.wholes: dict[nn.Parameter, nn.Parameter] = {}  # each part's parameter in the model

    def adopt(self, model: Model, precision: str, compiled: bool) -> dict[str, nn.Parameter]:
        """Spread a model over the ranks; give this rank's parts of its parameters by name."""
        if compiled:
            device.compile_modules(blocks(model))
        if self.mesh is not None:
            spread_rows(model, self.mesh, precision)  # and move them to the device
        parts = {}
        for name, whole in model.named_parameters():
            parts[name] = nn.Parameter(local(whole.detach()), whole.requires_grad)
            self.wholes[parts[name]] = whole
        return parts

    def reduce_gradients(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Hand the gradients, which the backward pass added up, to the parts."""
        for part in parameters.values():
            whole = self.wholes[part]
            part.grad = None if whole.grad is None else local(whole.grad)
            whole.grad = None

    def square_sum(self, parameters: Iterable[nn.Parameter]) -> Tensor:
        """Return what this rank adds to the squared norm of the gradient; what several ranks hold counts once."""
        by_copies: dict[int, list[Tensor]] = {}
        for part in parameters:
            if part.grad is not None:
                by_copies.setdefault(self.copies(self.wholes[part]), []).append(part.grad)
        sums = [square_sum(gradients) / copies for copies, gradients in by_copies.items()]
        total = torch.stack(sums).sum() if sums else torch.zeros((), dtype=torch.float64)
        return total * (self.ranks // self.data_ranks)  # `sum` counts what ranks of one share add as one

    def copies(self, whole: Tensor) -> int:
        """Count the ranks that hold the same part of a parameter."""
        parts = 1
        if isinstance(whole, DTensor):
            for size, placement in zip(whole.device_mesh.shape, whole.placements, strict=True):
                parts *= 1 if placement.is_replicate() else size
        return self.ranks // parts

    def laid_out(self, parameter: nn.Parameter, values: Tensor) -> Tensor:
        """Return values of one part as what all ranks hold together."""
        whole = self.wholes[parameter]
        if not isinstance(whole, DTensor):
            return values
        return DTensor.from_local(
            values, whole.device_mesh, whole.placements, run_check=False, shape=whole.shape, stride=whole.stride()
        )

    def whole_shape(self, parameter: nn.Parameter) -> torch.Size:
        """Return the shape of what all ranks hold together."""
        return self.wholes[parameter].shape

    def on_matrices(
        self, function: OnMatrices, pieces: Sequence[Tensor], parameters: Sequence[nn.Parameter]
    ) -> list[Tensor]:
        """Apply a function to matrices of one shape: each travels to one rank, whole, and its result back."""
        if self.mesh is None:
            return list(function(torch.stack(list(pieces))))
        mesh = self.mesh["rows"]
        rows = chunk_sizes(self.rows(self.wholes[parameters[0]]), mesh.size())
        return share_out_rows(function, pieces, rows, mesh.get_group())

    def rows(self, whole: Tensor) -> int:
        """Count the rows that are spread over the mesh."""
        return whole.size(0)


def local(tensor: Tensor) -> Tensor:
    """Give this rank's part of a tensor, in the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def spread_rows(model: Model, mesh: DeviceMesh, precision: str) -> None:
    """Spread each parameter's rows over the last dimension of a mesh, and copies of that over the first if it has two.

    Zhao et al. 2023, "PyTorch FSDP". A block's parameters are gathered for its forward and again for its backward pass,
    and its gradients summed right after. On a GPU blocks are gathered in bfloat16; embeddings, head and the stream
    between blocks stay in float32, as under autocast.
    """
    narrow = MixedPrecisionPolicy()
    if precision == "bf16" and mesh.device_type == "cuda":
        narrow = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    for module in (*blocks(model), model):
        fully_shard(module, mesh=mesh, mp_policy=MixedPrecisionPolicy() if module is model else narrow)
        assert isinstance(module, FSDPModule)
        module.set_gradient_divide_factor(1.0)  # the loop divides, by the number of targets
        module.set_force_sum_reduction_for_comms(True)
