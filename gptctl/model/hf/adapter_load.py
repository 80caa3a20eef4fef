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
from gptctl.model.gpt import GPT
from gptctl.model.hf import files
from gptctl.model.hf.adapter_format import (
    CONFIG,
    EXTRA,
    HEAD,
    PLAIN_SETTINGS,
    PREFIX,
    WEIGHTS,
    AdapterSettings,
    adapter_family,
    own_tensors,
)
from gptctl.model.hf.config_export import ties_head
from gptctl.model.hf.family_spec import Family
from gptctl.model.hf.tensors import ChangedError, Tensors, from_hf_tensors, to_hf_tensors
from gptctl.model.meta_init import meta_init
from gptctl.model.saved_model import SavedModel, assign_weights


def load_adapter(folder: Path, base: SavedModel) -> SavedModel:
    """Return the base model with the update of an adapter's folder merged.

    Raises DataError (3) if the update does not fit the base.
    """
    if model_manifest.has_manifest(folder):
        model_manifest.verify(folder)
    tokenizer_json, extra = base.tokenizer_json, base.extra
    config, weights = merge_adapter(folder, base.model.gpt if isinstance(base.model, Classifier) else base.model)
    with meta_init():
        model = GPT(config)
    assign_weights(model, weights, folder)
    if (folder / "tokenizer.json").exists():
        tokenizer_json = files.read_tokenizer(folder)
        extra = extra | files.read_extra(folder, {})
    if (folder / EXTRA).exists():
        extra = read_json(folder / EXTRA)
    return SavedModel(model.eval(), config, tokenizer_json, extra)


def load_adapter_into(folder: Path, model: nn.Module) -> None:
    """Merge the update of an adapter's folder into its base model, in place.

    Raises DataError (3) if gptctl does not compute the update, or if it belongs to another model.
    """
    assert isinstance(model, GPT | Classifier)
    config, weights = merge_adapter(folder, model)
    if config != model.config:
        raise DataError(f"{folder} adds tokens to the vocabulary", "load it by load_model, which makes room for them")
    assign_weights(model, weights, folder)


@torch.no_grad()
def merge_adapter(folder: Path, model: GPT | Classifier) -> tuple[ModelConfig, Tensors]:
    """Return the config and the weights of a model after an update.

    The weights are under our names, without padding. The update may enlarge the vocabulary.
    """
    settings = read_settings(folder)
    stored = {name.removeprefix(PREFIX): t for name, t in tensor_files.read_tensors(folder / WEIGHTS).items()}
    state, config = model.state_dict(), model.config
    if isinstance(model, GPT) and any(name.startswith(("gpt.", "label_head.")) for name in stored):
        raise DataError(f"{folder} is the update of a classifier", "use its run, whose model has the update merged")
    has_own_names = any(f"{name.split('.lora_')[0]}.weight" in state for name in stored)
    family = None if has_own_names else adapter_family(model, state)
    weights = to_hf_tensors(state, config, family) if family else own_tensors(state, config)
    update_weights(weights, stored, settings, family, folder)
    if family is None:
        return resized(
            config, weights, "embedding.weight" if isinstance(model, GPT) else "gpt.embedding.weight"
        ), weights
    embedding = f"{family.outer_modules[0].hf_name}.weight"
    head = weights.get(f"{HEAD}.weight", weights[embedding])
    if ties_head(config, family) and not torch.equal(head, weights[embedding]):
        raise DataError(
            f"{folder} has a head that differs from its embedding, but those of its base are tied", "merge it with peft"
        )
    config = resized(config, weights, embedding)
    try:
        return config, from_hf_tensors(weights, family, config)
    except ChangedError as error:
        raise DataError(
            f"{folder} makes a model that gptctl does not compute: {error}", "merge it with peft"
        ) from error


def read_settings(folder: Path) -> AdapterSettings:
    """Return the settings of an adapter. Raises DataError (3) for settings that gptctl does not compute."""
    values = read_json(folder / CONFIG)
    unsupported = [
        f"{key} = {values.get(key)}"
        for key, value in PLAIN_SETTINGS.items()
        if (values.get(key) or None) != (value or None)
    ]
    if values.get("peft_type") != "LORA":
        unsupported = [f"peft_type = {values.get('peft_type')}"]
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


def update_weights(
    weights: Tensors, stored: Tensors, settings: AdapterSettings, family: Family | None, folder: Path
) -> None:
    """Apply the stored updates to weights, and replace those that are stored whole, in place."""
    for name in [name for name in stored if name.endswith(".lora_A.weight")]:
        module = name.removesuffix(".lora_A.weight")
        if f"{module}.weight" not in weights:
            raise DataError(
                f"{folder} changes {module}, which its base does not have", "is base_model_name_or_path right?"
            )
        transposed = bool(family and family.block_modules[0].transposed and module != HEAD)
        weights[f"{module}.weight"] = updated(weights[f"{module}.weight"], module, stored, settings, transposed)
    weights.update({name: tensor for name, tensor in stored.items() if ".lora_" not in name})


def updated(weight: Tensor, module: str, stored: Tensors, settings: AdapterSettings, transposed: bool) -> Tensor:
    """Return a weight after its update, computed in double precision.

    Raises DataError (3) for shapes that do not fit.
    """
    down, up = stored[f"{module}.lora_A.weight"].double(), stored[f"{module}.lora_B.weight"].double()
    rank = down.size(0)
    alpha = module_value(settings.alpha_pattern, module, settings.lora_alpha)
    scale = alpha / (rank**0.5 if settings.use_rslora else rank)
    old = (weight.T if transposed else weight).double()  # (out, in)
    if (up.size(0), down.size(1)) != tuple(old.shape) or up.size(1) != rank:
        raise DataError(f"the update of {module} does not fit its weight", "is base_model_name_or_path right?")
    new = old + scale * (up @ down)
    magnitude = stored.get(f"{module}.lora_magnitude_vector")
    if magnitude is not None:
        new = new * (magnitude.double() / new.norm(dim=1))[:, None]
    new = new.to(weight.dtype)
    return new.T if transposed else new


def module_value(patterns: dict[str, float] | None, module: str, default: float) -> float:
    """Return a module's own value of a setting, if there is one. The keys are the ends of module names."""
    own = [value for key, value in (patterns or {}).items() if module == key or module.endswith(f".{key}")]
    return own[0] if own else default


def resized(config: ModelConfig, weights: Tensors, embedding: str) -> ModelConfig:
    """Return a config with the vocabulary size of the tensor `embedding`."""
    return config.model_copy(update={"vocab_size": weights[embedding].size(0)})
