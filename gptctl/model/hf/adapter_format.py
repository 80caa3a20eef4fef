"""The format of low-rank updates, as the package peft writes them: names, settings and modules.

The modules are those of the exported model. If one of them holds several of gptctl's modules, as GPT-2's c_attn holds
query, key and value, their updates of rank r become one of rank 3r: the A are stacked, and the B are the blocks of a
block-diagonal matrix. The magnitudes of DoRA are concatenated, because each belongs to one output.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field
from torch import Tensor, nn

from gptctl.core.errors import UsageError
from gptctl.model.config import ModelConfig
from gptctl.model.files import locate
from gptctl.model.gpt import GPT
from gptctl.model.hf.family_lookup import closest_family, unsupported_reason
from gptctl.model.hf.family_spec import Family, ModuleMap
from gptctl.model.hf.tensors import MappedModule, Tensors, to_hf_tensors
from gptctl.model.vocab_padding import unpad_vocab

CONFIG, WEIGHTS = locate.ADAPTER
EXTRA = "extra.json"  # of gptctl: what config.json of a model folder holds as extra
PREFIX = "base_model.model."
UPDATE_TENSORS = ("lora_a", "lora_b", "magnitude")
HEAD = "lm_head"
# Settings with these values mean that an update is W + (alpha/r) B A, with or without DoRA.
PLAIN_SETTINGS: dict[str, Any] = {
    "bias": "none", "layer_replication": None, "lora_bias": False, "target_parameters": None,
    "trainable_token_indices": None, "use_bdlora": None, "use_qalora": False, "alora_invocation_tokens": None,
}  # fmt: skip


class AdapterSettings(BaseModel):
    """The settings of adapter_config.json that determine the update."""

    r: int = Field(8, ge=1)
    lora_alpha: float
    alpha_pattern: dict[str, float] | None = None
    use_rslora: bool | None = None


def adapter_family(model: nn.Module, state: Tensors) -> Family | None:
    """Return the class of transformers whose names a model's update can have, or None if there is none."""
    if not isinstance(model, GPT) or unsupported_reason(model.config):
        return None
    family = closest_family(model.config)
    try:
        to_hf_tensors(state, model.config, family)
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


def own_tensors(state: Tensors, config: ModelConfig) -> Tensors:
    """Return copies of a model's tensors, without the padding of the vocabulary."""
    return {name: unpad_vocab(name, tensor, config).clone() for name, tensor in state.items()}
