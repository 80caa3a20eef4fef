"""Checkpoints: RUN/checkpoints/step-000500/ appears whole or not at all, and is verified before it is used.

    config.json, tokenizer.json    what makes it a model folder, as load_model opens it
    model.safetensors              the weights
    optimizer.safetensors          INDEX.PARAMETER.KEY, e.g. 0.blocks.1.attention.key.weight.exp_avg
    shard-00001-...safetensors     instead of these two, where each rank holds a part: a file per rank (checksummed.py)
    state.json                     step, samples seen, best loss, thread count and so on
    manifest.json                  size and checksum of each file

RUN/checkpoints/best holds the weights of the best evaluation, without an optimizer. Either layout is read by any number
of ranks with any strategy. writer.py writes them.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict_loader
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from gptctl.core.errors import DataError, GptctlError
from gptctl.model.files import checksummed, tensor_files
from gptctl.model.files.json_files import read_json
from gptctl.model.saved_model import load_weights_into
from gptctl.model.vocab_padding import pad_vocab
from gptctl.train.job import Model
from gptctl.train.strategies import Strategy

BEST = "best"
Parameters = Mapping[str, nn.Parameter]


def load(
    path: Path, model: Model, parameters: Parameters, optimizers: Sequence[Optimizer], strategy: Strategy
) -> dict[str, Any]:
    """Put a verified checkpoint's weights and optimizer state into this rank's parts, in place; give its state.

    Raises DataError (3) if it does not fit.
    """
    if strategy.dims.is_replicated:
        load_weights_into(model, path)
    else:
        load_parts(path, model, parameters, strategy)
    load_optimizers(path, parameters, optimizers, strategy)
    return read_state(path)


def read_state(path: Path) -> dict[str, Any]:
    """Return what a checkpoint knows besides tensors."""
    return read_json(path / "state.json")


def load_weights(path: Path, model: Model) -> None:
    """Copy a checkpoint's weights into a whole model."""
    load_weights_into(model, path)


def load_best(run_dir: Path, model: Model) -> dict[str, Any]:
    """Load the weights of the best evaluation into a whole model, or the last ones if none was kept; give their state.

    Raises DataError (3) if they are damaged or there are none.
    """
    path = run_dir / "checkpoints" / BEST
    if path.exists():
        checksummed.verify(path)
    else:
        found = latest_valid(run_dir)
        if found is None:
            raise DataError(f"{run_dir} holds no checkpoint", "train first: gptctl pretrain")
        path = found
    load_weights_into(model, path)
    return read_state(path)


def load_parts(path: Path, model: Model, parameters: Parameters, strategy: Strategy) -> None:
    """Fill this rank's parts of the weights."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()  # what an evaluation left gathered would be out of date
    wholes = {name: strategy.as_dtensor(part, part.detach()) for name, part in parameters.items()}
    if not tensor_files.is_sharded(path):
        stored = {
            name: pad_vocab(name, tensor, model.config) for name, tensor in tensor_files.read_weights(path).items()
        }
        for name in sorted(stored.keys() | wholes.keys()):
            if name not in stored or name not in wholes or stored[name].shape != wholes[name].shape:
                raise DataError(f"{path} does not fit the model: {name}", "use --force to start afresh")
            cut_out(stored[name], wholes[name])
        return
    read_into(path, wholes)


def load_optimizers(path: Path, parameters: Parameters, optimizers: Sequence[Optimizer], strategy: Strategy) -> None:
    """Fill this rank's parts of the optimizers' state. Settings follow from the recipe and are not stored."""
    owners = [{p for group in optimizer.param_groups for p in group["params"]} for optimizer in optimizers]
    wanted: dict[str, Tensor] = {}
    for full_name, stored in HuggingFaceStorageReader(str(path)).read_metadata().state_dict_metadata.items():
        index, _, rest = full_name.partition(".")
        name, _, key = rest.rpartition(".")
        if not index.isdigit():
            continue
        parameter = parameters.get(name)
        if parameter is None or int(index) >= len(optimizers) or parameter not in owners[int(index)]:
            raise DataError(f"{path} does not fit the optimizer: {full_name}", "use --force to start afresh")
        assert isinstance(stored, TensorStorageMetadata)
        values = torch.zeros_like(parameter)
        wanted[full_name] = strategy.as_dtensor(parameter, values)
        if stored.size != wanted[full_name].shape:
            # A fused optimizer keeps its step count beside the parameter, like everything else.
            values = torch.zeros(stored.size, dtype=stored.properties.dtype, device=parameter.device)
            wanted[full_name] = values
        optimizers[int(index)].state[parameter][key] = values
    read_into(path, wanted)


def read_into(path: Path, wanted: dict[str, Tensor]) -> None:
    """Fill tensors, or the parts of them that this rank holds, from a folder's files, in place."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that each rank reads for itself, which is what we want
            state_dict_loader.load(dict(wanted), storage_reader=HuggingFaceStorageReader(str(path)), no_dist=True)
    except CheckpointException as error:
        reason = str(next(iter(error.failures.values()))[0])
        raise DataError(f"{path} does not fit the model: {reason}", "use --force to start afresh") from error


def cut_out(tensor: Tensor, target: Tensor) -> None:
    """Copy this rank's part of a tensor into a target, in place."""
    if isinstance(target, DTensor):
        tensor = distribute_tensor(
            tensor.to(target.device), target.device_mesh, target.placements, src_data_rank=None
        ).to_local()
        target = target.to_local()
    target.copy_(tensor)


def contents(
    parameters: Parameters, optimizers: Sequence[Optimizer], strategy: Strategy
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Name every tensor of the weights and of the optimizers' state, as all ranks hold them together."""
    weights = {name: strategy.as_dtensor(parameter, parameter.detach()) for name, parameter in parameters.items()}
    kept = {
        f"{index}.{name}.{key}": strategy.as_dtensor(parameter, value) if value.ndim else value
        for index, optimizer in enumerate(optimizers)
        for name, parameter in parameters.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }
    return weights, kept


def latest_valid(run_dir: Path, warn: Callable[[str], None] | None = None) -> Path | None:
    """Return the newest checkpoint whose checksums hold; say which newer ones are damaged."""
    for path in reversed(steps(run_dir / "checkpoints")):
        try:
            checksummed.verify(path)
        except GptctlError as error:
            if warn:
                warn(f"{path.name} is damaged and passed over: {error.message}")
            continue
        return path
    return None


def prune(folder: Path, keep: int, verified: Container[Path] = ()) -> None:
    """Remove all but the newest `keep` valid checkpoints; damaged ones do not count and go too.

    What is in `verified` counts as valid without being read again.
    """
    kept = 0
    for path in reversed(steps(folder)):
        if kept < keep:
            try:
                if path not in verified:
                    checksummed.verify(path)
                kept += 1
                continue
            except GptctlError:
                pass
        shutil.rmtree(path)


def steps(folder: Path) -> list[Path]:
    """List the checkpoints by step, oldest first."""
    found = [path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))
