"""The models that finetuning starts from. Each rank builds its own, the same as all others."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from gptctl.core.errors import UsageError
from gptctl.core.seeds import derive
from gptctl.model.classifier import Classifier, Pooling
from gptctl.model.folder import load_model
from gptctl.model.gpt import GPT
from gptctl.model.lora import apply_lora
from gptctl.model.lora_config import LoraConfig
from gptctl.model.vocab_padding import PADDED_TENSORS


@dataclass(frozen=True)
class Base:
    """A model folder and what is changed about it. `vocab_size` may be larger than the base's."""

    folder: Path
    vocab_size: int
    dropout: float = 0.0
    seed: int = 0
    lora: LoraConfig = field(default_factory=LoraConfig)
    freeze: tuple[str, ...] = ()
    freeze_layers: int = 0


def language_model(base: Base) -> GPT:
    """Build a language model with the base's weights."""
    model, widened = pretrained(base)
    prepare(model, model, base, widened)
    return model


def classifier(base: Base, labels: int, pooling: Pooling) -> Classifier:
    """Put a fresh label head on the base's weights; it is trained whatever else is frozen."""
    gpt, widened = pretrained(base)
    model = Classifier(gpt, labels, base.seed, base.dropout, pooling)
    prepare(model, gpt, base, widened)
    model.label_head.requires_grad_(True)
    return model


def pretrained(base: Base) -> tuple[GPT, bool]:
    """Load the base, with room for new symbols; tell whether there are any."""
    loaded, shape, _, _ = load_model(base.folder)
    source = loaded.gpt if isinstance(loaded, Classifier) else loaded
    model = GPT(shape.model_copy(update={"dropout": base.dropout, "vocab_size": base.vocab_size}))
    weights = source.state_dict()
    generator = torch.Generator().manual_seed(derive(base.seed, "new symbols"))
    for name in PADDED_TENSORS:
        if name in weights:
            weights[name] = widen(weights[name], shape.vocab_size, model, generator)
    model.load_state_dict(weights)
    return model, base.vocab_size > shape.vocab_size


def widen(table: Tensor, known: int, model: GPT, generator: torch.Generator) -> Tensor:
    """Return a table (padded V, C) the `known` rows of another one, and normal rows as large as those behind them."""
    config = model.config
    wide = table.new_zeros(config.padded_vocab_size, table.size(1))
    wide[:known] = table[:known]
    wide[known : config.vocab_size].normal_(0, float(table[:known].std()), generator=generator)
    return wide


def prepare(model: nn.Module, gpt: GPT, base: Base, widened: bool) -> None:
    """Freeze what is to stay, and adapt what is to be adapted. With new symbols, the tables that hold them learn too.

    Raises UsageError (2) if nothing is left to train.
    """
    if base.lora.rank:
        apply_lora(model, base.lora, base.seed)
        for table in (gpt.embedding, gpt.head):
            if widened and table is not None:
                table.requires_grad_(True)
    lowest = [gpt.embedding, gpt.positions, *gpt.blocks[: base.freeze_layers]] if base.freeze_layers else []
    for module in lowest:
        if module is not None:
            module.requires_grad_(False)
    freeze(gpt, base.freeze)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UsageError("everything is frozen", "freeze less: freeze, freeze_layers")


def freeze(model: nn.Module, globs: tuple[str, ...]) -> None:
    """Keep the parameters as they are whose names fit one of some globs; UsageError (2) for one that fits none."""
    for glob in globs:
        fitting = [parameter for name, parameter in model.named_parameters() if fnmatch.fnmatch(name, glob)]
        if not fitting:
            names = ", ".join(name for name, _ in list(model.named_parameters())[:6])
            raise UsageError(f"freeze: no parameter is called '{glob}'; there are: {names} ...", "use globs")
        for parameter in fitting:
            parameter.requires_grad_(False)
