"""The format of low-rank updates, as the package peft writes them: names, settings and modules.

The modules are those of the exported model. If one of them holds several of gptctl's modules, as GPT-2's c_attn holds
query, key and value, their updates of rank r become one of rank 3r: the A are stacked, and the B are the blocks of a
block-diagonal matrix. The magnitudes of DoRA are concatenated, because each belongs to one output.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn

from gptctl.core.errors import DataError, UsageError
from gptctl.model.config import ModelConfig
from gptctl.model.files import locate
from gptctl.model.files.lazy_tensor import LazyTensor
from gptctl.model.gpt import GPT
from gptctl.model.hf.family_lookup import closest_family, unsupported_reason
from gptctl.model.hf.family_spec import Family, ModuleMap
from gptctl.model.hf.tensors import MappedModule, lazy_hf_tensors
from gptctl.model.vocab_padding import unpad_lazily

T = TypeVar("T")
LazyTensors = Mapping[str, LazyTensor]

CONFIG, WEIGHTS = locate.ADAPTER
EXTRA = locate.ADAPTER_EXTRA
PREFIX = "base_model.model."
UPDATE_TENSORS = ("lora_a", "lora_b", "magnitude")
HEAD = "lm_head"
# With these initializations the update is relative to the base's own weights. PiSSA, OLoRA, CorDA, LoftQ and others
# also change the base, which gptctl does not do.
PLAIN_INITIALIZATIONS = (None, True, False, "gaussian", "orthogonal", "eva")
# Settings that do not change the update, or that the stored tensors tell.
WITHOUT_EFFECT = {
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "eva_config", "exclude_modules", "fan_in_fan_out",
    "inference_mode", "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha", "lora_dropout",
    "megatron_core", "modules_to_save", "peft_type", "peft_version", "qalora_group_size", "r", "rank_pattern",
    "revision", "runtime_config", "target_modules", "task_type", "use_dora", "use_rslora",
}  # fmt: skip


class AdapterSettings(BaseModel):
    """The settings of adapter_config.json that determine the update."""

    r: int = Field(8, ge=1)
    lora_alpha: float = 8.0
    rank_pattern: dict[str, int] | None = None
    alpha_pattern: dict[str, float] | None = None
    use_rslora: bool | None = None
    use_dora: bool | None = None
    modules_to_save: list[str] | None = None

    def is_copy(self, module: str) -> bool:
        """Return whether peft trains a copy of a module, so that a head that is tied to it stays as it was."""
        return any(f".{module}".endswith(f".{name}") for name in self.modules_to_save or ())

    def rank(self, module: str) -> int:
        """Return the rank of a module's update."""
        return matching(self.rank_pattern, module, self.r)

    def scale(self, module: str) -> float:
        """Return the factor of a module's update: alpha / rank, or alpha / sqrt(rank) with rslora."""
        rank = self.rank(module)
        return matching(self.alpha_pattern, module, self.lora_alpha) / (rank**0.5 if self.use_rslora else rank)


def unsupported_settings(values: dict[str, Any]) -> list[str]:
    """Return the settings of an adapter_config.json with which gptctl does not compute what peft computes.

    A setting that gptctl does not know must be off.
    """
    found = [
        f"{key} = {value}"
        for key, value in values.items()
        if key not in WITHOUT_EFFECT and value not in (None, False, "none", {}, [])
    ]
    if values.get("peft_type") != "LORA":
        found.append(f"peft_type = {values.get('peft_type')}")
    initialization = values.get("init_lora_weights")
    if (initialization.lower() if isinstance(initialization, str) else initialization) not in PLAIN_INITIALIZATIONS:
        found.append(f"init_lora_weights = {initialization}")
    return found


def matching(patterns: Mapping[str, T] | None, module: str, default: T) -> T:
    """Return the value of the first pattern that matches a module's whole name, or the end of it after a dot.

    Patterns are regular expressions, as in peft. Raises DataError (3) for an invalid one.
    """
    for pattern, value in (patterns or {}).items():
        try:
            if re.match(rf"(.*\.)?({pattern})$", module):
                return value
        except re.error as error:
            raise DataError(
                f"the adapter has an invalid pattern {pattern!r}: {error}", "copy the folder again"
            ) from error
    return default


def adapter_family(model: nn.Module, state: LazyTensors) -> Family | None:
    """Return the class of transformers whose names a model's update can have, or None if there is none."""
    if not isinstance(model, GPT) or unsupported_reason(model.config):
        return None
    family = closest_family(model.config)
    try:
        lazy_hf_tensors(state, model.config, family)
    except UsageError:
        return None
    return family


def own_modules(model: nn.Module) -> list[MappedModule]:
    """List the modules of a model that have a weight, under our names."""
    return [
        MappedModule(name, (name,), ModuleMap(name, (name,)), getattr(module, "bias", None) is not None)
        for name, module in model.named_modules()
        if isinstance(getattr(module, "weight", None), Tensor)
    ]


def own_tensors(state: LazyTensors, config: ModelConfig) -> dict[str, LazyTensor]:
    """Return a model's tensors in float32, without the padding of the vocabulary."""
    return {name: unpad_lazily(name, tensor, config).converted(torch.float32) for name, tensor in state.items()}
