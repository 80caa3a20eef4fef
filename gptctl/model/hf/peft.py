"""Low-rank updates as the package peft keeps them: adapter_model.safetensors and adapter_config.json.

The modules are those of the exported model. Where one of transformers holds several of ours, as c_attn of GPT-2 holds
query, key and value, their updates of rank r become one of rank 3r: the A lie one below the other, the B on the
diagonal, each beside its own A. DoRA's magnitudes just follow one another, for they belong to outputs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, Field, ValidationError
from torch import Tensor, nn

from gptctl.core import atomic
from gptctl.core.errors import DataError, UsageError
from gptctl.model import folder as model_folder
from gptctl.model.classifier import Classifier
from gptctl.model.config import ModelConfig
from gptctl.model.files import checksummed, locate, tensor_files
from gptctl.model.files.json_files import read_json
from gptctl.model.gpt import GPT
from gptctl.model.hf import config as hf_config
from gptctl.model.hf import files, tensors
from gptctl.model.hf.family import Family, Module
from gptctl.model.hf.tensors import Placed, Tensors
from gptctl.model.lora import LoraLinear, lora_layers
from gptctl.model.meta_init import meta_init
from gptctl.model.vocab_padding import unpad_vocab

CONFIG, WEIGHTS = locate.ADAPTER
EXTRA = "extra.json"
PREFIX = "base_model.model."
UPDATE = ("lora_a", "lora_b", "magnitude")
HEAD = "lm_head"
# Settings of peft under which an update means something else than W + (alpha/r) B A, with or without DoRA.
PLAIN: dict[str, Any] = {
    "bias": "none", "layer_replication": None, "lora_bias": False, "target_parameters": None,
    "trainable_token_indices": None, "use_bdlora": None, "use_qalora": False, "alora_invocation_tokens": None,
}  # fmt: skip


@torch.no_grad()
def save(
    folder: Path, model: nn.Module, base: str, tokenizer_json: str = "", extra: dict[str, Any] | None = None
) -> None:
    """Write a model's updates, and the modules that are trained whole. `base` is what the training started from.

    With `tokenizer_json` the folder says by itself how texts become tokens, which it must where symbols were added, and
    keeps `extra`, as a model folder does.
    The names are transformers' for a language model that has a class there, ours for any other.
    """
    assert isinstance(model, GPT | Classifier)
    layers = dict(lora_layers(model))
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.endswith(UPDATE)}
    family = family_for(model, state)
    places = tensors.modules(family, model.config) if family else own_modules(model)
    weights = tensors.to_theirs(state, model.config, family) if family else trimmed(state, model.config)
    found: Tensors = {}
    ranks: dict[str, int] = {}
    whole: list[str] = []
    trained = {name for name, p in model.named_parameters() if p.requires_grad and not name.endswith(UPDATE)}
    for place in places:
        if any(name in layers for name in place.ours):
            update = stack(place, layers, model)
            ranks[place.theirs] = update["lora_A.weight"].size(0)
            found |= {f"{PREFIX}{place.theirs}.{name}": tensor for name, tensor in update.items()}
        elif any(trained.intersection(ours) for _, ours in place.names()):
            whole.append(place.theirs)
            found |= {f"{PREFIX}{theirs}": weights[theirs] for theirs, _ in place.names() if theirs in weights}
    if family and family.around[0].theirs in whole and HEAD not in whole:
        # peft would leave the head as it was, which is tied to the embedding.
        whole.append(HEAD)
        found[f"{PREFIX}{HEAD}.weight"] = weights[f"{family.around[0].theirs}.weight"].clone()
    with atomic.atomic_folder(folder) as temporary:
        tensor_files.write_tensors(temporary / WEIGHTS, found)
        first = next(iter(layers.values()))
        atomic.write_json(temporary / CONFIG, settings(first, ranks, whole, family, base))
        if tokenizer_json:
            files.write_companions(temporary, model.config, tokenizer_json, extra or {})
            atomic.write_json(temporary / EXTRA, extra or {})
        checksummed.write_manifest(temporary, "adapter")


def settings(
    layer: LoraLinear, ranks: dict[str, int], whole: list[str], family: Family | None, base: str
) -> dict[str, Any]:
    """Return what adapter_config.json says."""
    rank = layer.lora_a.size(0)
    others = {name: found for name, found in ranks.items() if found != rank}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(locate.find_model(base).resolve()) if Path(base).exists() else base,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": number(layer.scale * rank),
        "lora_dropout": layer.dropout.p,
        "bias": "none",
        "fan_in_fan_out": bool(family and family.block[0].transposed),
        "use_dora": layer.magnitude is not None,
        "use_rslora": False,
        "init_lora_weights": True,
        "target_modules": list(ranks),
        "rank_pattern": others,
        "alpha_pattern": {name: number(layer.scale * found) for name, found in others.items()},
        "modules_to_save": whole or None,
    }


def number(value: float) -> int | float:
    """Write a whole number as one."""
    return int(value) if value == int(value) else value


def family_for(model: nn.Module, state: Tensors) -> Family | None:
    """Return the class of transformers whose names a model's update can have, None where there is none."""
    if not isinstance(model, GPT) or hf_config.refusal(model.config):
        return None
    family = hf_config.family_of(model.config)
    try:
        tensors.to_theirs(state, model.config, family)
    except UsageError:
        return None
    return family


def own_modules(model: nn.Module) -> list[Placed]:
    """List a model's modules that have parameters of their own, under our names."""
    return [
        Placed(name, (name,), Module(name, (name,)), getattr(module, "bias", None) is not None)
        for name, module in model.named_modules()
        if isinstance(getattr(module, "weight", None), Tensor)
    ]


def trimmed(state: Tensors, config: ModelConfig) -> Tensors:
    """Cut the vocabulary's padding off."""
    return {name: unpad_vocab(name, tensor, config).clone() for name, tensor in state.items()}


def stack(place: Placed, layers: dict[str, LoraLinear], model: GPT | Classifier) -> Tensors:
    """Return the update of one module of theirs: A (k r, in), B (out, k r) for k updates of ours, and magnitudes
    (out,).

    What is not adapted has a B of no columns, and as its magnitude what its rows are long.
    """
    downs: list[Tensor] = []
    ups: list[Tensor] = []
    lengths: list[Tensor] = []
    for name in place.ours:
        weight = unpad_vocab(f"{name}.weight", model.get_parameter(f"{name}.weight"), model.config)
        rows, length = weight.size(0), weight.norm(dim=1)
        up = weight.new_zeros(rows, 0)
        if layer := layers.get(name):
            downs.append(layer.lora_a)
            up = layer.lora_b[:rows]
            length = length if layer.magnitude is None else layer.magnitude[:rows]
        ups.append(up * place.scale)
        lengths.append(length * place.scale)
    diagonal = torch.block_diag(*ups)  # type: ignore[no-untyped-call]
    found = {"lora_A.weight": torch.cat(downs), "lora_B.weight": diagonal}
    if any(layer.magnitude is not None for layer in layers.values()):
        found["lora_magnitude_vector"] = torch.cat(lengths)
    return found


def load(folder: Path, model: nn.Module) -> None:
    """Put the update of a folder, merged, into the weights of the model it was made for, in place.

    Raises DataError (3) where it is no low-rank update that gptctl computes, or of another model.
    """
    assert isinstance(model, GPT | Classifier)
    config, weights = merged(folder, model)
    if config != model.config:
        raise DataError(f"{folder} adds symbols to the vocabulary", "load it by load_model, which makes room for them")
    model_folder.assign_weights(model, weights, folder)


def load_model(folder: Path) -> model_folder.SavedModel:
    """Return what `folder.load_model` gives, for an adapter's folder: its base with the update merged.

    Raises DataError (3) where the base is not on this machine, is a classifier's, or does not fit.
    """
    base, _, tokenizer_json, extra = model_folder.load_model(locate.adapter_base(folder))
    if checksummed.has_manifest(folder):
        checksummed.verify(folder)
    if isinstance(base, Classifier):
        base = base.gpt
    config, weights = merged(folder, base)
    with meta_init():
        model = GPT(config)
    model_folder.assign_weights(model, weights, folder)
    if (folder / "tokenizer.json").exists():
        tokenizer_json = files.read_tokenizer(folder)
        extra |= files.read_extra(folder, {})
    if (folder / EXTRA).exists():
        extra = read_json(folder / EXTRA)
    return model_folder.SavedModel(model.eval(), config, tokenizer_json, extra)


@torch.no_grad()
def merged(folder: Path, model: GPT | Classifier) -> tuple[ModelConfig, Tensors]:
    """Return a model's weights, by our names and without padding, after an update; and its config, as tables may
    grow."""
    told = read_json(folder / CONFIG)
    check(told, folder)
    stored = {name.removeprefix(PREFIX): t for name, t in tensor_files.read_tensors(folder / WEIGHTS).items()}
    state, config = model.state_dict(), model.config
    if isinstance(model, GPT) and any(name.startswith(("gpt.", "label_head.")) for name in stored):
        raise DataError(f"{folder} is the update of a classifier", "name its run, whose model has the update merged")
    family = None if any(f"{name.split('.lora_')[0]}.weight" in state for name in stored) else family_for(model, state)
    weights = tensors.to_theirs(state, config, family) if family else trimmed(state, config)
    for name in [name for name in stored if name.endswith(".lora_A.weight")]:
        module = name.removesuffix(".lora_A.weight")
        if f"{module}.weight" not in weights:
            raise DataError(f"{folder} changes {module}, which its base has not", "is base_model_name_or_path right?")
        transposed = bool(family and family.block[0].transposed and module != HEAD)
        weights[f"{module}.weight"] = updated(weights[f"{module}.weight"], module, stored, told, transposed)
    for name, tensor in stored.items():
        if ".lora_" not in name:
            weights[name] = tensor
    if family is None:
        own = "embedding.weight" if isinstance(model, GPT) else "gpt.embedding.weight"
        return resized(config, weights, own), weights
    embedding = f"{family.around[0].theirs}.weight"
    if hf_config.ties(config) and not torch.equal(
        weights.get(f"{HEAD}.weight", weights[embedding]), weights[embedding]
    ):
        raise DataError(
            f"{folder} has a head apart from its embedding, and its base has one for both", "merge it there"
        )
    config = resized(config, weights, embedding)
    try:
        return config, tensors.to_ours(weights, family, config)
    except tensors.ChangedError as error:
        raise DataError(
            f"{folder} makes a model that gptctl does not compute: {error}", "merge it with peft"
        ) from error


class Told(BaseModel):
    """What of adapter_config.json is computed with."""

    r: int = Field(8, ge=1)
    lora_alpha: float
    alpha_pattern: dict[str, float] | None = None
    use_rslora: bool | None = None


def check(told: dict[str, Any], folder: Path) -> None:
    """Raise DataError (3) for an update that is not of low rank, or changed in ways that are not computed here."""
    strange = [f"{key} = {told.get(key)}" for key, value in PLAIN.items() if (told.get(key) or None) != (value or None)]
    if told.get("peft_type") != "LORA":
        strange = [f"peft_type = {told.get('peft_type')}"]
    try:
        Told.model_validate(told)
    except ValidationError as error:
        strange = [".".join(map(str, found["loc"])) + ": " + found["msg"] for found in error.errors()]
    if strange:
        raise DataError(f"{folder} has what gptctl does not compute: {', '.join(strange)}", "merge it with peft")


def updated(weight: Tensor, module: str, stored: Tensors, told: dict[str, Any], transposed: bool) -> Tensor:
    """Return a weight after its update, computed in double precision. Raises DataError (3) for shapes that do not
    fit."""
    down, up = stored[f"{module}.lora_A.weight"].double(), stored[f"{module}.lora_B.weight"].double()
    rank = down.size(0)
    alpha = pattern(told.get("alpha_pattern"), module, told["lora_alpha"])
    scale = alpha / (rank**0.5 if told.get("use_rslora") else rank)
    old = (weight.T if transposed else weight).double()  # (out, in)
    if (up.size(0), down.size(1)) != tuple(old.shape) or up.size(1) != rank:
        raise DataError(f"the update of {module} does not fit its weight", "is base_model_name_or_path right?")
    new = old + scale * (up @ down)
    magnitude = stored.get(f"{module}.lora_magnitude_vector")
    if magnitude is not None:
        new = new * (magnitude.double() / new.norm(dim=1))[:, None]
    new = new.to(weight.dtype)
    return new.T if transposed else new


def pattern(patterns: dict[str, float] | None, module: str, usual: float) -> float:
    """Return a module's own value of a setting: the keys are the ends of modules' names."""
    own = [value for key, value in (patterns or {}).items() if module == key or module.endswith(f".{key}")]
    return own[0] if own else usual


def resized(config: ModelConfig, weights: Tensors, embedding: str) -> ModelConfig:
    """Return a config whose vocabulary is as large as a table."""
    return config.model_copy(update={"vocab_size": weights[embedding].size(0)})
