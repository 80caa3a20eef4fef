"""Methods of the strategies in which every rank holds the whole model: single and ddp."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gptctl.model.tensor_part import TensorPart
from gptctl.train.job import Model, allocate, language_model


class ReplicatedParameters:
    """Mixin of the strategies whose parameters are the model's own."""

    device: torch.device

    def prepare_model(self, model: Model, precision: str, compiled: bool) -> dict[str, nn.Parameter]:
        """Allocate a model's parameters on the device, without values, and return them by name."""
        allocate(model, self.device)
        if compiled:
            language_model(model).compile_parts()
        return dict(model.named_parameters())

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
