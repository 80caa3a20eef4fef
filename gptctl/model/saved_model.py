"""A model that was read from a folder, and how stored weights get into a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gptctl.core.errors import DataError
from gptctl.model.classifier import Classifier
from gptctl.model.config import ModelConfig
from gptctl.model.files import tensor_files
from gptctl.model.files.lazy_tensor import LazyTensor
from gptctl.model.gpt import GPT
from gptctl.model.vocab_padding import unpadded_shape
from gptctl.text.special_tokens import SpecialTokens
from gptctl.text.tokenizer import Tokenizer


class SavedModel(NamedTuple):
    """The content of a model folder. `extra` holds other values of its config.json, such as the names of labels."""

    model: GPT | Classifier
    config: ModelConfig
    tokenizer_json: str
    extra: dict[str, Any]

    def tokenizer(self) -> Tokenizer:
        """Parse the tokenizer. Raises DataError (3) if it is not valid."""
        return Tokenizer.from_json(self.tokenizer_json, SpecialTokens.from_extra(self.extra))


def load_weights_into(model: GPT | Classifier, folder: Path) -> None:
    """Load the weights of a folder with our names into a model, which may be in training.

    Raises DataError (3) if a name or a shape does not fit.
    """
    assign_weights(model, tensor_files.open_weights(folder), folder)


def assign_weights(model: GPT | Classifier, stored: Mapping[str, LazyTensor], folder: Path) -> None:
    """Load tensors with our names into a model, one after the other, in float32.

    The model may be on the meta device or in training. Raises DataError (3) if a name or a shape does not fit.
    """
    check_weights(model, stored, folder)
    gpt = model.gpt if isinstance(model, Classifier) else model
    is_meta = gpt.embedding.weight.is_meta
    for name, tensor in stored.items():
        parent, _, last = name.rpartition(".")
        module = model.get_submodule(parent)
        parameter = getattr(module, last)
        if is_meta:
            values = in_float32(tensor, parameter.shape)
            setattr(module, last, nn.Parameter(values, parameter.requires_grad))
        else:  # in place, so that an optimizer that was built over the model stays valid
            copy_rows(tensor.read(), parameter.detach())
    if is_meta:
        gpt.make_tables()


def check_weights(model: GPT | Classifier, stored: Mapping[str, LazyTensor], folder: Path) -> None:
    """Raise DataError (3) unless stored tensors have the names and shapes of a model's, without padding."""
    wanted = {name: unpadded_shape(name, tensor.shape, model.config) for name, tensor in model.state_dict().items()}
    reasons = [f"{name} is missing" for name in wanted if name not in stored]
    for name, tensor in stored.items():
        if name not in wanted:
            reasons.append(f"the model has no {name}")
        elif tensor.shape != wanted[name]:
            reasons.append(f"{name} has the shape {tuple(tensor.shape)}, not {tuple(wanted[name])}")
    if reasons:
        raise DataError(
            f"the weights in {folder} do not fit the model: {reasons[0]}", "check the folder; see gptctl doctor"
        )


def in_float32(tensor: LazyTensor, shape: torch.Size) -> Tensor:
    """Return a tensor in float32 with rows of zeros up to `shape`. It is alone in its memory."""
    if (tensor.dtype, tensor.shape) == (torch.float32, shape):
        found = tensor.read()
        if found.is_contiguous() and found.untyped_storage().nbytes() == found.nbytes:
            return found
    target = torch.empty(shape)  # before what it is copied from, which leaves no hole between the weights then
    copy_rows(tensor.read(), target)
    return target


def copy_rows(tensor: Tensor, target: Tensor) -> None:
    """Copy a tensor into the first rows of a target, and fill the others with zeros."""
    target[: len(tensor)] = tensor
    target[len(tensor) :] = 0
