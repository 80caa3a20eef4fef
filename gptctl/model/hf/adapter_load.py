"""Reading of adapters of the package peft: their updates are merged into the weights of the base model."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from gptctl.core.errors import DataError
from gptctl.model.classifier import Classifier
from gptctl.model.config import ModelConfig
from gptctl.model.files import model_manifest, tensor_files
from gptctl.model.files.json_files import read_json
from gptctl.model.files.lazy_tensor import LazyTensor, lazily
from gptctl.model.gpt import GPT
from gptctl.model.hf import files
from gptctl.model.hf.adapter_format import (
    CONFIG,
    EXTRA,
    HEAD,
    PREFIX,
    WEIGHTS,
    AdapterSettings,
    LazyTensors,
    adapter_family,
    own_tensors,
    unsupported_settings,
)
from gptctl.model.hf.config_export import ties_head
from gptctl.model.hf.family_spec import Family
from gptctl.model.hf.tensors import ChangedError, import_hf_tensors, lazy_hf_tensors
from gptctl.model.lora import merge_parts, merged_weight
from gptctl.model.meta_init import meta_init
from gptctl.model.saved_model import SavedModel, assign_weights


def open_adapter(folder: Path, base: SavedModel, weights: LazyTensors) -> tuple[SavedModel, dict[str, LazyTensor]]:
    """Return a base model with the update of an adapter's folder, and its weights, which are merged as they are read.

    `weights` are those of the base. The model is on the meta device. Raises DataError (3) if the update does not fit
    the base.
    """
    if model_manifest.has_manifest(folder):
        model_manifest.verify(folder)
    tokenizer_json, extra = base.tokenizer_json, base.extra
    gpt = base.model.gpt if isinstance(base.model, Classifier) else base.model
    if isinstance(base.model, Classifier):
        weights = {name.removeprefix("gpt."): tensor for name, tensor in weights.items() if name.startswith("gpt.")}
    config, merged = merge_adapter(folder, gpt, weights)
    with meta_init():
        model = GPT(config)
    if (folder / "tokenizer.json").exists():
        tokenizer_json = files.read_tokenizer(folder)
        own = files.read_extra(folder, {}, tokenizer_json)
        if "special_tokens" not in extra:  # the base is a model of gptctl
            own.pop("special_tokens", None)
        extra = extra | own
    if (folder / EXTRA).exists():
        extra = read_json(folder / EXTRA)
    return SavedModel(model.eval(), config, tokenizer_json, extra), merged


def load_adapter_into(folder: Path, model: nn.Module) -> None:
    """Merge the update of an adapter's folder into its base model, in place.

    Raises DataError (3) if gptctl does not compute the update, or if it belongs to another model.
    """
    assert isinstance(model, GPT | Classifier)
    config, weights = merge_adapter(folder, model, lazily(model.state_dict()))
    if config != model.config:
        raise DataError(
            f"{folder} changes the shape of its base", "load it as a model, which makes room for new tokens"
        )
    assign_weights(model, weights, folder)


def merge_adapter(
    folder: Path, model: GPT | Classifier, state: LazyTensors
) -> tuple[ModelConfig, dict[str, LazyTensor]]:
    """Return the config and the weights of a model after an update. `state` holds the weights before it.

    The weights are under our names, without padding, and each is merged when it is read. The update may enlarge the
    vocabulary.
    """
    settings, config = read_settings(folder), model.config
    stored = {
        name.removeprefix(PREFIX): tensor.converted(torch.float32)
        for name, tensor in tensor_files.open_tensors(folder / WEIGHTS).items()
    }
    if isinstance(model, GPT) and any(name.startswith(("gpt.", "label_head.")) for name in stored):
        raise DataError(f"{folder} is the update of a classifier", "use its run, whose model has the update merged")
    has_own_names = any(f"{name.split('.lora_')[0]}.weight" in state for name in stored)
    family = None if has_own_names else adapter_family(model, state)
    weights = lazy_hf_tensors(state, config, family) if family else own_tensors(state, config)
    head, embedding = (
        f"{family.head_name if family else HEAD}.weight",
        f"{family.outer_modules[0].hf_name}.weight" if family else "embedding.weight",
    )
    if family and ties_head(config, family):
        weights[head] = weights[embedding]  # peft changes each of the two alone
    AdapterUpdate(weights, stored, settings, family, folder).apply()
    if family is None:
        return resized(
            config, weights, "embedding.weight" if isinstance(model, GPT) else "gpt.embedding.weight"
        ), weights
    if ties_head(config, family):
        if weights[head] is weights[embedding] or torch.equal(weights[head].read(), weights[embedding].read()):
            del weights[head]
        else:
            config = config.model_copy(update={"tie_embeddings": False})
    config = resized(config, weights, embedding)
    try:
        return config, import_hf_tensors(weights, family, config)
    except ChangedError as error:
        raise DataError(
            f"{folder} makes a model that gptctl does not compute: {error}", "merge it with peft"
        ) from error


def read_settings(folder: Path) -> AdapterSettings:
    """Return the settings of an adapter. Raises DataError (3) for settings that gptctl does not compute."""
    values = read_json(folder / CONFIG)
    unsupported = unsupported_settings(values)
    settings = None
    try:
        settings = AdapterSettings.model_validate(values)
    except ValidationError as error:
        unsupported = [".".join(map(str, found["loc"])) + ": " + found["msg"] for found in error.errors()]
    if unsupported or settings is None:
        raise DataError(
            f"{folder} has settings that gptctl does not compute: {', '.join(unsupported)}", "merge it with peft"
        )
    return settings


class AdapterUpdate:
    """The update of a model's tensors by those of an adapter, each of which is used exactly once.

    A tensor is computed when it is read.
    """

    def __init__(
        self,
        weights: dict[str, LazyTensor],
        stored: LazyTensors,
        settings: AdapterSettings,
        family: Family | None,
        folder: Path,
    ) -> None:
        self.weights = weights
        self.stored = dict(stored)
        self.settings = settings
        self.is_transposed = bool(family and family.block_modules[0].transposed)
        self.folder = folder

    def apply(self) -> None:
        """Update the weights in place: first the tensors that are stored whole, then the low-rank updates.

        Raises DataError (3) for tensors that do not fit the base, or that gptctl does not compute.
        """
        for name in [name for name in self.stored if ".lora_" not in name]:
            target = name.replace(".base_layer.weight", ".weight")
            if target not in self.weights:
                raise self.error(f"changes {name}, which its base does not have")
            replaced, tensor = self.weights[target], self.stored.pop(name)
            is_copy = target == name and self.settings.is_copy(name.removesuffix(".weight"))
            for twin in [twin for twin in self.weights if self.weights[twin] is replaced and not is_copy]:
                self.weights[twin] = tensor  # the head that is tied to an embedding
            self.weights[target] = tensor
        for name in [name for name in self.stored if name.endswith(".lora_A.weight")]:
            self.update_matrix(name.removesuffix(".lora_A.weight"))
        for name in [name for name in self.stored if name.endswith(".lora_embedding_A")]:
            self.update_embedding(name.removesuffix(".lora_embedding_A"))
        if self.stored:
            raise self.error(f"has a tensor that gptctl does not compute: {next(iter(self.stored))}")

    def update_matrix(self, module: str) -> None:
        """Update a matrix."""
        down, up = self.take(f"{module}.lora_A.weight"), self.take(f"{module}.lora_B.weight")
        weight = self.weight_of(module)
        is_transposed = self.is_transposed and module != HEAD
        rows, columns = reversed(weight.shape) if is_transposed else weight.shape
        self.check_update(module, (up.shape[0], down.shape[1]) == (rows, columns), up.shape[1], down.shape[0])
        magnitude = self.take(f"{module}.lora_magnitude_vector") if self.settings.use_dora else None
        scale = self.settings.scale(module)

        def merge(old: Tensor) -> Tensor:
            weight = old.T if is_transposed else old
            new = merge_parts(down, up, scale, magnitude, weight)
            return new.T if is_transposed else new

        self.weights[f"{module}.weight"] = weight.map(merge)

    def update_embedding(self, module: str) -> None:
        """Update an embedding, whose A is (r, vocabulary) and whose B is (width, r)."""
        down, up = self.take(f"{module}.lora_embedding_A"), self.take(f"{module}.lora_embedding_B")
        weight, scale = self.weight_of(module), self.settings.scale(module)
        self.check_update(module, (down.shape[1], up.shape[0]) == weight.shape, up.shape[1], down.shape[0])

        def merge(old: Tensor) -> Tensor:
            return merged_weight(old, up.read().T, down.read().T, scale)

        self.weights[f"{module}.weight"] = weight.map(merge)

    def check_update(self, module: str, fits: bool, *ranks: int) -> None:
        """Raise DataError (3) unless an update has the shape of its weight, and the rank that the settings tell."""
        if not fits or set(ranks) != {self.settings.rank(module)}:
            raise self.error(f"has an update of {module} that does not fit its weight")

    def weight_of(self, module: str) -> LazyTensor:
        """Return the weight of a module of the base."""
        weight = self.weights.get(f"{module}.weight")
        if weight is None:
            raise self.error(f"changes {module}, which its base does not have")
        return weight

    def take(self, name: str) -> LazyTensor:
        """Remove and return a stored tensor."""
        if name not in self.stored:
            raise self.error(f"has no tensor {name}")
        return self.stored.pop(name)

    def error(self, problem: str) -> DataError:
        """Return an error about the adapter."""
        return DataError(f"{self.folder} {problem}", "is base_model_name_or_path right? Otherwise merge it with peft")


def resized(config: ModelConfig, weights: LazyTensors, embedding: str) -> ModelConfig:
    """Return a config with the vocabulary size of the tensor `embedding`."""
    return config.model_copy(update={"vocab_size": weights[embedding].shape[0]})
