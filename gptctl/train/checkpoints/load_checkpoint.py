"""Loading of a checkpoint's weights and optimizer state, into full models or into a rank's shards."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict_loader
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.fsdp import FSDPModule
from torch.optim import Optimizer

from gptctl.core.errors import DataError
from gptctl.model.files import tensor_files
from gptctl.model.files.json_files import read_json
from gptctl.model.files.shard_index import IndexedReader
from gptctl.model.files.weight_files import is_sharded
from gptctl.model.vocab_padding import unpadded_shape
from gptctl.train.job import Model
from gptctl.train.strategies import Strategy

Parameters = Mapping[str, nn.Parameter]
FORCE_HINT = "use --force to start afresh"


def load_checkpoint(
    path: Path, model: Model, parameters: Parameters, optimizers: Sequence[Optimizer], strategy: Strategy
) -> dict[str, Any]:
    """Load a verified checkpoint into this rank's shards and optimizers, in place, and return its progress.

    Raises DataError (3) if it does not fit.
    """
    load_weights(path, model, parameters, strategy)
    strategy.update_model()
    load_optimizers(path, parameters, optimizers, strategy)
    return read_progress(path)


def read_progress(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint's state.json."""
    return read_json(path / "state.json")


def load_weights(path: Path, model: Model, parameters: Parameters, strategy: Strategy) -> None:
    """Load the weights into this rank's shards."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()  # parameters that an evaluation left gathered would be out of date
    if is_sharded(path):
        read_into(path, {name: strategy.as_dtensor(shard, shard.detach()) for name, shard in parameters.items()})
        return
    stored = tensor_files.open_weights(path)
    for name in sorted(stored.keys() | parameters.keys()):
        if name in stored and name in parameters:
            part = strategy.part_of(parameters[name])
            if stored[name].shape in (part.shape, unpadded_shape(name, part.shape, model.config)):
                part.fill(stored[name].read())
                continue
        raise DataError(f"{path} does not fit the model: {name}", FORCE_HINT)


def load_optimizers(path: Path, parameters: Parameters, optimizers: Sequence[Optimizer], strategy: Strategy) -> None:
    """Load this rank's shards of the optimizers' state. Hyperparameters follow from the recipe and are not stored."""
    owned = [{p for group in optimizer.param_groups for p in group["params"]} for optimizer in optimizers]
    targets: dict[str, Tensor] = {}
    for full_name, stored in IndexedReader(path).read_metadata().state_dict_metadata.items():
        index, _, rest = full_name.partition(".")
        name, _, key = rest.rpartition(".")
        if not index.isdigit():
            continue
        parameter = parameters.get(name)
        if parameter is None or int(index) >= len(optimizers) or parameter not in owned[int(index)]:
            raise DataError(f"{path} does not fit the optimizer: {full_name}", FORCE_HINT)
        assert isinstance(stored, TensorStorageMetadata)
        values = torch.zeros_like(parameter, dtype=stored.properties.dtype)
        targets[full_name] = strategy.as_dtensor(parameter, values)
        if stored.size != targets[full_name].shape:
            # A fused optimizer keeps its step count on the parameter's device, like the rest of its state.
            values = torch.zeros(stored.size, dtype=stored.properties.dtype, device=parameter.device)
            targets[full_name] = values
        optimizers[int(index)].state[parameter][key] = values
    read_into(path, targets)


def read_into(path: Path, targets: dict[str, Tensor]) -> None:
    """Fill tensors, or this rank's shards of them, from a folder's files, in place."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns that each rank reads for itself, which is intended
            state_dict_loader.load(dict(targets), storage_reader=IndexedReader(path), no_dist=True)
    except CheckpointException as error:
        reason = str(next(iter(error.failures.values()))[0])
        raise DataError(f"{path} does not fit the model: {reason}", FORCE_HINT) from error
