"""Methods of the strategies in which every rank holds the whole model: single and ddp."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor, nn

from gptctl.model.tensor_part import TensorPart
from gptctl.train.job import Model, allocate, language_model


class ReplicatedParameters:
    """Mixin of the strategies whose parameters are the model's own."""

    device: torch.device
    rounded: Mapping[nn.Parameter, nn.Parameter] = MappingProxyType({})  # the model's parameter of each copy

    def prepare_model(self, model: Model, precision: str, compiled: bool) -> dict[str, nn.Parameter]:
        """Allocate a model's parameters on the device, without values, and return them by name.

        With bf16-master they are copies in float32 of the model's parameters, which are in bfloat16 (Micikevicius et
        al. 2018, "Mixed Precision Training", 3.1).
        """
        allocate(model, self.device)
        if compiled:
            language_model(model).compile_parts()
        parameters = dict(model.named_parameters())
        return self.keep_masters(model, parameters) if precision == "bf16-master" else parameters

    def keep_masters(self, model: Model, parameters: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
        """Turn a model's parameters into bfloat16, and return copies of them in float32.

        The backward pass adds gradients to those of the copies. Routers stay in float32.
        """
        masters = {}
        for name, parameter in parameters.items():
            if ".router." in name:
                masters[name] = parameter
                continue
            master = masters[name] = nn.Parameter(parameter.detach(), parameter.requires_grad)
            parameter.data = torch.empty_like(parameter, dtype=torch.bfloat16)
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(partial(move_gradient, master))  # type: ignore[no-untyped-call]
            self.rounded = {**self.rounded, master: parameter}
        return masters

    @torch.no_grad()
    def update_model(self) -> None:
        """Round the copies in float32 to the model's parameters, if there are any."""
        if self.rounded:
            torch._foreach_copy_([parameter.data for parameter in self.rounded.values()], list(self.rounded))

    def start_backward(self, is_last: bool) -> None:
        """Do nothing: the backward pass adds to gradients that are summed after the last one."""

    def as_dtensor(self, parameter: nn.Parameter, values: Tensor) -> Tensor:
        """Return the values: this rank holds all of them."""
        return values

    def part_of(self, parameter: nn.Parameter) -> TensorPart:
        """Return a parameter as the part that is all of it."""
        return TensorPart.whole(parameter.detach())

    def full_shape(self, parameter: nn.Parameter) -> torch.Size:
        """Return the shape of a parameter."""
        return parameter.shape


def move_gradient(master: nn.Parameter, parameter: Tensor) -> None:
    """Add the gradient of a parameter in bfloat16 to that of its copy in float32, and drop it."""
    assert parameter.grad is not None
    if master.grad is None:
        master.grad = parameter.grad.float()
    else:
        master.grad += parameter.grad
    parameter.grad = None
