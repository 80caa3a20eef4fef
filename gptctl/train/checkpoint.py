"""Checkpoints: RUN/checkpoints/step-000500/ appears whole or not at all, and is verified before it is used.

    model.safetensors, config.json, tokenizer.json    a model folder, as load_model opens it
    optimizer.safetensors    INDEX.PARAMETER.KEY, e.g. 0.blocks.1.attention.key.weight.exp_avg
    state.json               step, samples seen, best loss, thread count and so on
    manifest.json            size and checksum of each file

RUN/checkpoints/best holds the weights of the best evaluation, without an optimizer.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gptctl.core import atomic
from gptctl.core.errors import DataError, GptctlError
from gptctl.model import sealed
from gptctl.model.folder import fill, write_model
from gptctl.train.job import Model

BEST = "best"


def save(
    folder: Path,
    step: int,
    model: Model,
    optimizers: Sequence[Optimizer],
    state: dict[str, Any],
    tokenizer_json: str = "",
    about: dict[str, Any] | None = None,
) -> Path:
    """Write folder/step-NNNNNN at once and give its path."""
    path = folder / f"step-{step:06d}"
    with atomic.atomic_folder(path) as temporary:
        write_model(temporary, model, tokenizer_json, about or {})
        sealed.write_tensors(temporary / "optimizer.safetensors", optimizer_tensors(model, optimizers))
        atomic.write_json(temporary / "state.json", state)
        sealed.seal(temporary, "checkpoint")
    return path


def save_best(
    folder: Path, model: Model, state: dict[str, Any], tokenizer_json: str = "", about: dict[str, Any] | None = None
) -> None:
    """Replace folder/best by these weights."""
    with atomic.atomic_folder(folder / BEST) as temporary:
        write_model(temporary, model, tokenizer_json, about or {})
        atomic.write_json(temporary / "state.json", state)
        sealed.seal(temporary, "checkpoint")


def load(path: Path, model: Model, optimizers: Sequence[Optimizer] = ()) -> dict[str, Any]:
    """Put a checkpoint's weights, and its optimizer state if asked for, into what was freshly built; give its state.

    Raises DataError (3) if a file is missing, damaged, or does not fit.
    """
    sealed.verify(path)
    load_weights(path, model)
    if optimizers:
        fill_optimizers(model, optimizers, sealed.read_tensors(path / "optimizer.safetensors"), path)
    return sealed.read_json(path / "state.json")


def load_weights(path: Path, model: Model) -> None:
    """Copy a checkpoint's weights into a model in place, so that an optimizer built over it stays valid."""
    fill(model, path)


def load_best(run_dir: Path, model: Model) -> dict[str, Any]:
    """Load the weights of the best evaluation, or the last ones if none was kept; give their state."""
    folder = run_dir / "checkpoints"
    path = folder / BEST
    if not path.exists():
        found = latest_valid(run_dir)
        if found is None:
            raise DataError(f"{run_dir} holds no checkpoint", "train first: gptctl pretrain")
        path = found
    return load(path, model)


def latest_valid(run_dir: Path, warn: Callable[[str], None] | None = None) -> Path | None:
    """Give the newest checkpoint whose checksums hold; say which newer ones are damaged."""
    for path in reversed(steps(run_dir / "checkpoints")):
        try:
            sealed.verify(path)
        except GptctlError as error:
            if warn:
                warn(f"{path.name} is damaged and passed over: {error.message}")
            continue
        return path
    return None


def prune(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` valid checkpoints; damaged ones do not count and go too."""
    kept = 0
    for path in reversed(steps(folder)):
        if kept < keep:
            try:
                sealed.verify(path)
                kept += 1
                continue
            except GptctlError:
                pass
        shutil.rmtree(path)


def steps(folder: Path) -> list[Path]:
    """List the checkpoints by step, oldest first."""
    found = [path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def optimizer_tensors(model: Model, optimizers: Sequence[Optimizer]) -> dict[str, Tensor]:
    """Name every tensor of the optimizers' state; their settings follow from the recipe and are not stored."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{index}.{names[parameter]}.{key}": value
        for index, optimizer in enumerate(optimizers)
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
    }


def fill_optimizers(model: Model, optimizers: Sequence[Optimizer], tensors: dict[str, Tensor], path: Path) -> None:
    """Put stored state back into optimizers built over the same model."""
    parameters = dict(model.named_parameters())
    owners = [{p for group in optimizer.param_groups for p in group["params"]} for optimizer in optimizers]
    with torch.no_grad():
        for full_name, tensor in tensors.items():
            index, _, rest = full_name.partition(".")
            name, _, key = rest.rpartition(".")
            parameter = parameters.get(name)
            if parameter is None or int(index) >= len(optimizers) or parameter not in owners[int(index)]:
                raise DataError(f"{path} does not fit the optimizer: {full_name}", "use --force to start afresh")
            # A fused optimizer keeps its step count beside the parameter, like everything else.
            optimizers[int(index)].state[parameter][key] = tensor.to(parameter.device)
