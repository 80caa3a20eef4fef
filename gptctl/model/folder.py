"""A model on disk: config.json, model.safetensors, tokenizer.json and a manifest with checksums."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F

from gptctl.core import atomic
from gptctl.core.config import plain
from gptctl.core.errors import DataError, UsageError
from gptctl.model import sealed
from gptctl.model.classifier import Classifier
from gptctl.model.config import ModelConfig
from gptctl.model.gpt import GPT
from gptctl.model.locate import refuse_pickle

PADDED = ("embedding.weight", "head.weight")  # (padded V, C) in memory, (V, C) on disk


def save_model(folder: Path, model: GPT | Classifier, tokenizer_json: str, extra: dict[str, Any]) -> None:
    """Write a model folder at once. `extra` is kept in config.json, e.g. the names of a classifier's labels."""
    with atomic.atomic_folder(folder) as temporary:
        write_model(temporary, model, tokenizer_json, extra)
        sealed.seal(temporary, "model")


def write_model(folder: Path, model: GPT | Classifier, tokenizer_json: str, extra: dict[str, Any]) -> None:
    """Write a model's three files into a folder that is not yet sealed."""
    write_weights(folder, model, model.state_dict())
    write_config(folder, model, tokenizer_json, extra)


def write_weights(folder: Path, model: GPT | Classifier, tensors: Mapping[str, Tensor]) -> None:
    """Write weights by their names, which may be older than what the model holds now."""
    sealed.write_tensors(
        folder / sealed.WEIGHTS, {name: cut(name, tensor, model.config) for name, tensor in tensors.items()}
    )


def write_config(folder: Path, model: GPT | Classifier, tokenizer_json: str, extra: dict[str, Any]) -> None:
    """Write what is not a tensor."""
    labels = model.labels if isinstance(model, Classifier) else 0
    atomic.write_json(folder / "config.json", {"gptctl": plain(model.config), "labels": labels, "extra": extra})
    atomic.write_text(folder / "tokenizer.json", tokenizer_json)


def load_model(folder: Path) -> tuple[GPT | Classifier, ModelConfig, str, dict[str, Any]]:
    """Give (model in evaluation mode, config, tokenizer.json's text, extra) of a folder that `save_model` wrote.

    Raises UsageError (2) if there is no such folder, DataError (3) if a file is missing, damaged or pickled.
    """
    if not folder.is_dir():
        raise UsageError(f"no such model folder: {folder}", "give a run folder, or its model folder")
    refuse_pickle(folder)
    sealed.verify(folder)
    values = sealed.read_json(folder / "config.json")
    try:
        config = ModelConfig.model_validate(values["gptctl"])
    except (KeyError, ValidationError) as error:
        raise DataError(
            f"{folder / 'config.json'} describes no gptctl model", "give a folder that gptctl wrote"
        ) from error
    with torch.device("meta"):
        gpt = GPT(config)
        model = Classifier(gpt, values["labels"]) if values["labels"] else gpt
    fill(model, folder)
    return model.eval(), config, (folder / "tokenizer.json").read_text(encoding="utf-8"), values["extra"]


def fill(model: GPT | Classifier, folder: Path) -> None:
    """Load a folder's weights into a model, which may be on the meta device or in training.

    Raises DataError (3) if a name or a shape does not fit.
    """
    stored = sealed.read_weights(folder)
    tensors = {name: pad(name, tensor, model.config) for name, tensor in stored.items()}
    gpt = model.gpt if isinstance(model, Classifier) else model
    empty = gpt.embedding.weight.is_meta
    try:
        # Copied in place otherwise, so that an optimizer built over the model stays valid.
        model.load_state_dict(tensors, assign=empty)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise DataError(
            f"the weights in {folder} do not fit the model: {reason}", "check the folder; see gptctl doctor"
        ) from error
    if empty:
        gpt.make_tables()


def cut(name: str, tensor: Tensor, config: ModelConfig) -> Tensor:
    """Cut the vocabulary's padding rows off."""
    return tensor[: config.vocab_size] if name.removeprefix("gpt.") in PADDED else tensor


def pad(name: str, tensor: Tensor, config: ModelConfig) -> Tensor:
    """Put the vocabulary's padding rows back, as zeros."""
    if name.removeprefix("gpt.") in PADDED:
        return F.pad(tensor, (0, 0, 0, config.padded_vocab_size - tensor.size(0)))
    return tensor
