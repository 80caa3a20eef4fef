"""Reading of model folders: those of gptctl, those of transformers and other programs, and adapters.

The names of the tensors tell which side wrote a folder. gptctl/model/save.py describes what gptctl writes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gptctl.core.errors import DataError, UsageError
from gptctl.model.classifier import Classifier, Pooling
from gptctl.model.config import ModelConfig
from gptctl.model.files import locate, model_manifest, tensor_files
from gptctl.model.files.json_files import read_json
from gptctl.model.files.lazy_tensor import LazyTensor
from gptctl.model.gpt import GPT
from gptctl.model.hf import adapter_load, files
from gptctl.model.hf.config_export import ties_head
from gptctl.model.hf.config_import import candidate_configs, read_model_config
from gptctl.model.hf.family_spec import Family
from gptctl.model.hf.tensors import ChangedError, import_hf_tensors
from gptctl.model.lora import apply_lora, merge_lora, merge_stored
from gptctl.model.lora_config import LoraConfig
from gptctl.model.meta_init import meta_init
from gptctl.model.rope import position_table_bytes
from gptctl.model.saved_model import SavedModel, assign_weights, check_weights

__all__ = ["load_model", "open_model_weights"]


@dataclass(frozen=True)
class OpenModel:
    """The content of a model folder whose weights are not read yet, so that they are read one after the other.

    `saved` has the model on the meta device, and `weights` are under our names, without padding.
    """

    saved: SavedModel
    weights: Mapping[str, LazyTensor]


def load_model(folder: Path) -> SavedModel:
    """Return the model of any folder that `find_model` returns, in evaluation mode.

    A low-rank update, in a checkpoint or in an adapter's folder, is merged into the weights. If there is a manifest,
    every file is checked against it. Raises UsageError (2) if there is no such folder, DataError (3) if a file is
    missing, damaged or a pickle, or if gptctl does not know the model.
    """
    opened = open_model(folder)
    assign_weights(opened.saved.model, opened.weights, folder)
    return opened.saved


def open_model(folder: Path) -> OpenModel:
    """Return what `load_model` returns, but do not read the weights yet. Raises as `load_model`."""
    if not folder.is_dir():
        raise UsageError(f"no such model folder: {folder}", "give a run folder, or its model folder")
    if locate.is_adapter(folder):
        base = open_model(locate.adapter_base(folder))
        saved, merged = adapter_load.open_adapter(folder, base.saved, base.weights)
        check_weights(saved.model, merged, folder)
        return OpenModel(saved, {name: merged[name] for name in saved.model.state_dict()})
    locate.refuse_pickle(folder)
    values = read_json(folder / "config.json")
    is_ours = "model_type" not in values
    if is_ours or model_manifest.has_manifest(folder):
        model_manifest.verify(folder)
    stored = tensor_files.open_weights(folder)
    model: GPT | Classifier
    weights: Mapping[str, LazyTensor]
    if is_ours:
        model, weights, extra = open_gptctl(folder, values, stored)
    else:
        config, weights = open_transformers(folder, values, stored)
        with meta_init():
            model = GPT(config)
        extra = StoredSettings.read(values, folder).extra if "gptctl" in values else {}
    tokenizer_json = files.read_tokenizer(folder)
    if not is_ours and "gptctl" not in values:
        extra = files.read_extra(folder, values, tokenizer_json)
        files.check_vocabulary(tokenizer_json, model.config.vocab_size, folder)
    check_weights(model, weights, folder)
    weights = {name: weights[name] for name in model.state_dict()}
    return OpenModel(SavedModel(model.eval(), model.config, tokenizer_json, extra), weights)


def open_model_weights(folder: Path) -> dict[str, LazyTensor]:
    """Return the weights of any folder that `load_model` reads, under our names, to be read later.

    Low-rank updates, of an adapter or in a checkpoint, are merged when a weight is read. Folders that have them are
    verified.
    """
    if not locate.is_adapter(folder):
        values = read_json(folder / "config.json")
        stored = tensor_files.open_weights(folder)
        if "model_type" in values:
            return open_transformers(folder, values, stored)[1]
        if not any(name.endswith(".lora_a") for name in stored):
            return stored
    return dict(open_model(folder).weights)


class StoredSettings(BaseModel):
    """The values of config.json that gptctl writes beside the model's config."""

    model_config = ConfigDict(strict=True)

    labels: int = Field(0, ge=0, le=2**20)
    pooling: Pooling = "last"
    extra: dict[str, Any] = {}
    lora: LoraConfig | None = None

    @classmethod
    def read(cls, values: dict[str, Any], folder: Path) -> StoredSettings:
        """Read them. Raises DataError (3) for values of the wrong type."""
        try:
            found = cls.model_validate(
                {name: values[name] for name in ("labels", "pooling", "extra") if name in values}
            )
            return found.model_copy(update={"lora": LoraConfig.model_validate(found.extra.get("lora") or {})})
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise DataError(f"{folder / 'config.json'}: {place}: {first['msg']}", "copy it again") from error


def open_gptctl(
    folder: Path, values: dict[str, Any], stored: Mapping[str, LazyTensor]
) -> tuple[GPT | Classifier, Mapping[str, LazyTensor], dict[str, Any]]:
    """Return the model, its weights and the extra values of a folder with our names.

    A low-rank update is merged when the weights are read.
    """
    config = read_model_config(values, str(folder / "config.json"))
    settings = StoredSettings.read(values, folder)
    check_size(config, stored, folder)
    with meta_init():
        gpt = GPT(config)
        model = Classifier(gpt, settings.labels, pooling=settings.pooling) if settings.labels else gpt
    extra = {name: value for name, value in settings.extra.items() if name != "lora"}
    if not (settings.lora and settings.lora.rank):
        return model, stored, extra
    apply_lora(model, settings.lora, seed=0)
    check_weights(model, stored, folder)
    merged = merge_stored(model, stored)
    merge_lora(model)
    model.requires_grad_(True)
    return model, merged, extra


def open_transformers(
    folder: Path, values: dict[str, Any], stored: Mapping[str, LazyTensor]
) -> tuple[ModelConfig, dict[str, LazyTensor]]:
    """Return the config of a folder with the names of transformers, and its tensors under ours."""
    reason = ""
    if quantization := values.get("quantization_config"):
        method = quantization.get("quant_method", "unknown") if isinstance(quantization, dict) else quantization
        raise DataError(
            f"the weights in {folder} are quantized ({method}), which gptctl does not read",
            "take the model's weights in float32, bfloat16 or float16",
        )
    for family, config in candidate_configs(values, str(folder / "config.json")):
        check_size(config, stored, folder)
        if ties_head(config, family) and has_other_head(stored, family):  # as in transformers, the weights decide
            config = config.model_copy(update={"tie_embeddings": False})
        try:
            return config, import_hf_tensors(stored, family, config)
        except ChangedError as error:
            reason = str(error)
    raise DataError(f"the weights in {folder} are not what config.json says: {reason}", "gptctl does not compute that")


def has_other_head(stored: Mapping[str, LazyTensor], family: Family) -> bool:
    """Return whether a folder has a head that differs from its embedding."""
    name = f"{family.outer_modules[0].hf_name}.weight"
    embedding = stored.get(name) or stored.get(name.removeprefix(family.prefix))
    head = stored.get(f"{family.head_name}.weight")
    return head is not None and embedding is not None and not torch.equal(head.read(), embedding.read())


def check_size(config: ModelConfig, stored: Mapping[str, LazyTensor], folder: Path) -> None:
    """Raise DataError (3), before a model is built, if the weights or the memory are far too small for its config."""
    held = sum(math.prod(tensor.shape) for tensor in stored.values())
    if config.parameters() > 2 * held:  # some biases may be absent
        raise DataError(
            f"config.json in {folder} describes {config.parameters():,} parameters, the weights have {held:,} numbers",
            "check that both belong to one model",
        )
    tables, free = position_table_bytes(config), psutil.virtual_memory().available
    if tables > free:
        raise DataError(
            f"config.json in {folder} describes a context of {config.max_seq_len:,} tokens, whose position tables have "
            f"{tables / 2**30:,.0f} GiB; {free / 2**30:,.0f} GiB of memory are free",
            "correct max_position_embeddings or max_seq_len",
        )
