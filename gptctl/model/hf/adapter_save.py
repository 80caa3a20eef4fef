"""Writing of low-rank updates as adapters of the package peft."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gptctl.core import atomic
from gptctl.io.hub import client
from gptctl.io.hub.uri import HubUri, is_hub
from gptctl.model.classifier import Classifier
from gptctl.model.files import locate, model_manifest, tensor_files
from gptctl.model.files.lazy_tensor import lazily
from gptctl.model.gpt import GPT
from gptctl.model.hf.adapter_format import (
    CONFIG,
    EXTRA,
    HEAD,
    PREFIX,
    UPDATE_TENSORS,
    WEIGHTS,
    LazyTensors,
    adapter_family,
    own_modules,
    own_tensors,
)
from gptctl.model.hf.family_spec import Family
from gptctl.model.hf.files import write_tokenizer_files
from gptctl.model.hf.tensors import MappedModule, Tensors, lazy_hf_tensors, map_modules
from gptctl.model.lora import LoraLinear, lora_layers
from gptctl.model.vocab_padding import unpad_vocab


@dataclass
class Adapter:
    """The tensors of an adapter, the rank of each updated module, and the modules that are stored whole."""

    tensors: Tensors = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)
    whole: list[str] = field(default_factory=list)


@torch.no_grad()
def save_adapter(
    folder: Path, model: nn.Module, base: str, tokenizer_json: str = "", extra: dict[str, Any] | None = None
) -> None:
    """Write the low-rank updates of a model, and the modules that were trained whole. `base` is its base model.

    With `tokenizer_json` the folder has its own tokenizer, which is needed if tokens were added, and stores `extra` as
    a model folder does. The names are those of transformers for a language model that one of its classes computes, ours
    for any other.
    """
    assert isinstance(model, GPT | Classifier)
    layers = dict(lora_layers(model))
    state = lazily({name: found for name, found in model.state_dict().items() if not name.endswith(UPDATE_TENSORS)})
    family = adapter_family(model, state)
    adapter = collect(model, layers, state, family)
    with atomic.atomic_folder(folder) as temporary:
        tensor_files.write_tensors(temporary / WEIGHTS, adapter.tensors)
        first = next(iter(layers.values()))
        atomic.write_json(temporary / CONFIG, peft_settings(first, adapter, family, base))
        if tokenizer_json:
            write_tokenizer_files(temporary, model.config, tokenizer_json, extra or {})
            atomic.write_json(temporary / EXTRA, extra or {})
        model_manifest.write_manifest(temporary, "adapter")


def collect(
    model: GPT | Classifier, layers: dict[str, LoraLinear], state: LazyTensors, family: Family | None
) -> Adapter:
    """Collect the tensors of an adapter under the names of a family, or under ours without one."""
    modules = map_modules(family, model.config) if family else own_modules(model)
    weights = lazy_hf_tensors(state, model.config, family) if family else own_tensors(state, model.config)
    trained = {name for name, p in model.named_parameters() if p.requires_grad and not name.endswith(UPDATE_TENSORS)}
    found = Adapter()
    for module in modules:
        if any(name in layers for name in module.names):
            update = join_updates(module, layers, model)
            found.ranks[module.hf_name] = update["lora_A.weight"].size(0)
            found.tensors |= {f"{PREFIX}{module.hf_name}.{name}": tensor for name, tensor in update.items()}
        elif any(trained.intersection(names) for _, names in module.tensor_names()):
            found.whole.append(module.hf_name)
            names = [hf_name for hf_name, _ in module.tensor_names() if hf_name in weights]
            found.tensors |= {f"{PREFIX}{hf_name}": weights[hf_name].read() for hf_name in names}
    if family and family.outer_modules[0].hf_name in found.whole and HEAD not in found.whole:
        # The head is tied to the embedding, but peft would leave it as it was.
        found.whole.append(HEAD)
        found.tensors[f"{PREFIX}{HEAD}.weight"] = weights[f"{family.outer_modules[0].hf_name}.weight"].read()
    return found


def join_updates(module: MappedModule, layers: dict[str, LoraLinear], model: GPT | Classifier) -> Tensors:
    """Return the update of one module of transformers: A (k r, in), B (out, k r) for k updates, and magnitudes (out,).

    A part that is not adapted gets a B without columns, and the norms of its rows as magnitudes.
    """
    downs: list[Tensor] = []
    ups: list[Tensor] = []
    magnitudes: list[Tensor] = []
    for name in module.names:
        weight = unpad_vocab(f"{name}.weight", model.get_parameter(f"{name}.weight"), model.config)
        rows, magnitude = weight.size(0), weight.norm(dim=1)
        up = weight.new_zeros(rows, 0)
        if layer := layers.get(name):
            downs.append(layer.lora_a)
            up = layer.lora_b[:rows]
            magnitude = magnitude if layer.magnitude is None else layer.magnitude[:rows]
        ups.append(up * module.scale)
        magnitudes.append(magnitude * module.scale)
    diagonal = torch.block_diag(*ups)  # type: ignore[no-untyped-call]
    order = slice(None) if module.order is None else module.order
    found = {"lora_A.weight": torch.cat(downs), "lora_B.weight": diagonal[order]}
    if any(layer.magnitude is not None for layer in layers.values()):
        found["lora_magnitude_vector"] = torch.cat(magnitudes)[order]
    return found


def base_settings(base: str) -> dict[str, Any]:
    """Return the values that name the base model: a folder, or a repository of the hub and its commit."""
    if is_hub(base) and not (place := client.pin(HubUri.parse(base))).path:
        return {"base_model_name_or_path": place.repo, "revision": place.revision}
    found = locate.find_model(base) if is_hub(base) or Path(base).exists() else None
    return {"base_model_name_or_path": str(found.resolve()) if found else base}


def peft_settings(layer: LoraLinear, adapter: Adapter, family: Family | None, base: str) -> dict[str, Any]:
    """Return the values of adapter_config.json."""
    rank = layer.lora_a.size(0)
    others = {name: found for name, found in adapter.ranks.items() if found != rank}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        **base_settings(base),
        "inference_mode": True,
        "r": rank,
        "lora_alpha": as_integer(layer.scale * rank),
        "lora_dropout": layer.dropout.p,
        "bias": "none",
        "fan_in_fan_out": bool(family and family.block_modules[0].transposed),
        "use_dora": layer.magnitude is not None,
        "use_rslora": False,
        "init_lora_weights": True,
        "target_modules": list(adapter.ranks),
        "rank_pattern": others,
        "alpha_pattern": {name: as_integer(layer.scale * found) for name, found in others.items()},
        "modules_to_save": adapter.whole or None,
    }


def as_integer(value: float) -> int | float:
    """Return a whole number as an integer, any other unchanged."""
    return int(value) if value == int(value) else value
