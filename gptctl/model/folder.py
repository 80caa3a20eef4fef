"""A model on disk: config.json, model.safetensors, tokenizer.json and a manifest with checksums.

Checkpoints of training carry our own names of tensors. A model folder carries those of transformers, where a class of
its computes the same, so that its from_pretrained opens the folder; config.json has our words beside its own. Folders
that transformers or others wrote are read, too: which names there are is seen from the tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from gptctl.core import atomic
from gptctl.core.config import plain
from gptctl.core.errors import DataError, UsageError
from gptctl.model.classifier import Classifier, Pooling
from gptctl.model.config import ModelConfig
from gptctl.model.files import checksummed, locate, tensor_files
from gptctl.model.files.json_files import read_json
from gptctl.model.gpt import GPT
from gptctl.model.hf import config as hf_config
from gptctl.model.hf import files, tensors
from gptctl.model.lora import apply_lora, merge_lora
from gptctl.model.lora_config import LoraConfig
from gptctl.model.meta_init import meta_init
from gptctl.model.vocab_padding import pad_vocab, unpad_vocab

__all__ = ["load_model", "save_model"]


class SavedModel(NamedTuple):
    """The content of a model folder. `extra` holds other values of its config.json, e.g. the names of labels."""

    model: GPT | Classifier
    config: ModelConfig
    tokenizer_json: str
    extra: dict[str, Any]


def save_model(folder: Path, model: GPT | Classifier, tokenizer_json: str, extra: dict[str, Any]) -> None:
    """Write a model folder at once. `extra` is kept in config.json, e.g. the names of a classifier's labels."""
    with atomic.atomic_folder(folder) as temporary:
        write_model(temporary, model, tokenizer_json, extra)
        checksummed.write_manifest(temporary, "model")


def write_model(folder: Path, model: GPT | Classifier, tokenizer_json: str, extra: dict[str, Any]) -> None:
    """Write a model's files into a folder that is not yet sealed, as transformers opens it if a class there fits."""
    try:
        write_transformers(folder, model, tokenizer_json, extra)
    except UsageError:
        write_weights(folder, model, model.state_dict())
        write_config(folder, model, tokenizer_json, extra)
        atomic.write_text(folder / checksummed.CARD, files.card(model.config, "", extra))


def write_transformers(
    folder: Path,
    model: GPT | Classifier,
    tokenizer_json: str,
    extra: dict[str, Any],
    dtype: torch.dtype = torch.float32,
    max_bytes: int = 0,
) -> None:
    """Write a model's files as transformers opens them; `max_bytes` is that of `tensor_files.write_weights`.

    Raises UsageError (2), before anything is written, where no class of transformers computes the same.
    """
    hint = "gptctl reads the folder of its run; see docs/export.md for what can be exported"
    if isinstance(model, Classifier):
        raise UsageError("a classifier's label head has no class in transformers that pools as it does", hint)
    if reason := hf_config.refusal(model.config):
        raise UsageError(reason, hint)
    family = hf_config.family_of(model.config)
    tensor_files.write_weights(folder, tensors.to_theirs(model.state_dict(), model.config, family, dtype), max_bytes)
    told = hf_config.to_values(model.config, str(dtype).removeprefix("torch."))
    atomic.write_json(folder / "config.json", told | {"gptctl": plain(model.config), "labels": 0, "extra": extra})
    files.write_companions(folder, model.config, tokenizer_json, extra)
    atomic.write_text(folder / checksummed.CARD, files.card(model.config, family.architecture, extra))


def write_weights(folder: Path, model: GPT | Classifier, named: Mapping[str, Tensor]) -> None:
    """Write weights by our names; they may be older than what the model holds now."""
    tensor_files.write_tensors(
        folder / tensor_files.WEIGHTS, {name: unpad_vocab(name, tensor, model.config) for name, tensor in named.items()}
    )


def write_config(folder: Path, model: GPT | Classifier, tokenizer_json: str, extra: dict[str, Any]) -> None:
    """Write what is not a tensor, in our words."""
    head: dict[str, Any] = {"labels": 0}
    if isinstance(model, Classifier):
        head = {"labels": model.labels, "pooling": model.pooling}
    atomic.write_json(folder / "config.json", {"gptctl": plain(model.config)} | head | {"extra": extra})
    atomic.write_text(folder / "tokenizer.json", tokenizer_json)


def load_model(folder: Path) -> SavedModel:
    """Return (model in evaluation mode, config, tokenizer.json's text, extra) of any folder that `find_model` gives.

    A low-rank update, in a checkpoint or an adapter's folder, is merged into the weights. Where there is a manifest,
    every file is checked against it.
    Raises UsageError (2) if there is no such folder, DataError (3) if a file is missing, damaged or pickled, or of a
    model that gptctl does not know.
    """
    if not folder.is_dir():
        raise UsageError(f"no such model folder: {folder}", "give a run folder, or its model folder")
    if locate.is_adapter(folder):
        from gptctl.model.hf import peft

        return peft.load_model(folder)
    locate.refuse_pickle(folder)
    values = read_json(folder / "config.json")
    ours = "model_type" not in values
    if ours or checksummed.has_manifest(folder):
        checksummed.verify(folder)
    stored = tensor_files.read_weights(folder)
    model, extra = (of_ours if ours else of_theirs)(folder, values, stored)
    return SavedModel(model.eval(), model.config, files.read_tokenizer(folder), extra)


class Described(BaseModel):
    """What our config.json says beside the model's shape."""

    model_config = ConfigDict(strict=True)

    labels: int = Field(0, ge=0, le=2**20)
    pooling: Pooling = "last"
    extra: dict[str, Any] = {}
    lora: LoraConfig | None = None

    @classmethod
    def of(cls, values: dict[str, Any], folder: Path) -> Described:
        """Read it. Raises DataError (3) for values of the wrong kind."""
        try:
            found = cls.model_validate(
                {name: values[name] for name in ("labels", "pooling", "extra") if name in values}
            )
            return found.model_copy(update={"lora": LoraConfig.model_validate(found.extra.get("lora") or {})})
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise DataError(f"{folder / 'config.json'}: {place}: {first['msg']}", "copy it again") from error


def of_ours(folder: Path, values: dict[str, Any], stored: Mapping[str, Tensor]) -> tuple[GPT | Classifier, Any]:
    """Build the model of a folder with our names."""
    config = hf_config.read_model_config(values, str(folder / "config.json"))
    described = Described.of(values, folder)
    check_size(config, stored, folder)
    with meta_init():
        gpt = GPT(config)
        model = Classifier(gpt, described.labels, pooling=described.pooling) if described.labels else gpt
    adapted = described.lora is not None and described.lora.rank > 0
    if described.lora and adapted:
        apply_lora(model, described.lora, seed=0)
    assign_weights(model, stored, folder)
    if adapted:
        merge_lora(model)
        model.requires_grad_(True)
    return model, {name: value for name, value in described.extra.items() if name != "lora"}


def check_size(config: ModelConfig, stored: Mapping[str, Tensor], folder: Path) -> None:
    """Raise DataError (3), before a model is built, for a shape that is far larger than the weights."""
    held = sum(tensor.numel() for tensor in stored.values())
    if config.parameters() > 2 * held:  # some biases may be absent
        raise DataError(
            f"config.json in {folder} describes {config.parameters():,} parameters, the weights hold {held:,} numbers",
            "check that both are of one model",
        )


def of_theirs(folder: Path, values: dict[str, Any], stored: dict[str, Tensor]) -> tuple[GPT, Any]:
    """Build the model of a folder with transformers' names."""
    reason = ""
    for family, config in hf_config.candidates(values, str(folder / "config.json")):
        check_size(config, stored, folder)
        try:
            ours = tensors.to_ours(stored, family, config)
        except tensors.ChangedError as error:
            reason = str(error)
            continue
        with meta_init():
            model = GPT(config)
        assign_weights(model, ours, folder)
        return model, Described.of(values, folder).extra if "gptctl" in values else files.read_extra(folder, values)
    raise DataError(f"the weights in {folder} are not what config.json says: {reason}", "gptctl does not compute that")


def load_weights_into(model: GPT | Classifier, folder: Path) -> None:
    """Load the weights of a folder with our names into a model, which may be in training.

    Raises DataError (3) if a name or a shape does not fit.
    """
    assign_weights(model, tensor_files.read_weights(folder), folder)


def assign_weights(model: GPT | Classifier, stored: Mapping[str, Tensor], folder: Path) -> None:
    """Load weights by our names into a model, which may be on the meta device or in training."""
    padded = {name: pad_vocab(name, tensor, model.config) for name, tensor in stored.items()}
    gpt = model.gpt if isinstance(model, Classifier) else model
    empty = gpt.embedding.weight.is_meta
    try:
        # Copied in place otherwise, so that an optimizer built over the model stays valid.
        model.load_state_dict(padded, assign=empty)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise DataError(
            f"the weights in {folder} do not fit the model: {reason}", "check the folder; see gptctl doctor"
        ) from error
    if empty:
        gpt.make_tables()
