"""The models that finetuning starts from. Each rank builds its own, all with the same weights."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from gptctl.core.errors import UsageError
from gptctl.core.seeds import derive
from gptctl.model.classifier import Classifier, Pooling
from gptctl.model.config import ModelConfig
from gptctl.model.folder import load_model
from gptctl.model.gpt import GPT
from gptctl.model.lora import apply_lora
from gptctl.model.lora_config import LoraConfig
from gptctl.model.meta_init import meta_init
from gptctl.model.tensor_part import TensorPart
from gptctl.model.vocab_padding import PADDED_TENSORS
from gptctl.train.job import Model


@dataclass(frozen=True)
class InitialModel:
    """A model folder, and what is changed before training."""

    folder: Path
    vocab_size: int = 0  # at least the folder's
    dropout: float = 0.0
    seed: int = 0
    lora: LoraConfig = field(default_factory=LoraConfig)
    freeze: tuple[str, ...] = ()
    freeze_layers: int = 0

    def model_config(self, base: ModelConfig) -> ModelConfig:
        """Return the config of the model, from that of the folder."""
        return base.model_copy(update={"dropout": self.dropout, "vocab_size": self.vocab_size})


@dataclass(frozen=True)
class PretrainedModel:
    """A language model with a folder's weights, or with `labels` a classifier with a new head."""

    initial: InitialModel
    labels: int = 0
    pooling: Pooling = "last"

    def build(self) -> Model:
        """Return the model on the meta device, without values. The new label head is never frozen."""
        saved = load_model(self.initial.folder)
        config = self.initial.model_config(saved.config)
        with meta_init():
            gpt = GPT(config)
            model = Classifier(gpt, self.labels, 0, self.initial.dropout, self.pooling) if self.labels else gpt
        prepare_parameters(model, gpt, self.initial, config.vocab_size > saved.config.vocab_size)
        if isinstance(model, Classifier):
            model.label_head.requires_grad_(True)
        return model

    def init_weights(self, model: Model, parts: Mapping[str, TensorPart]) -> None:
        """Fill a rank's parts of all parameters."""
        whole, has_new_tokens = load_pretrained(self.initial)
        full: Model = whole
        if isinstance(model, Classifier):
            full = Classifier(whole, self.labels, self.initial.seed, self.initial.dropout, self.pooling)
        prepare_parameters(full, whole, self.initial, has_new_tokens)
        for name, parameter in full.named_parameters():
            parts[name].copy_rows(0, parameter.detach())


def load_pretrained(initial: InitialModel) -> tuple[GPT, bool]:
    """Load the weights into a model with room for new tokens, and return whether there are any."""
    saved = load_model(initial.folder)
    source = saved.model.gpt if isinstance(saved.model, Classifier) else saved.model
    old_size = saved.config.vocab_size
    model = GPT(initial.model_config(saved.config))
    weights = source.state_dict()
    generator = torch.Generator().manual_seed(derive(initial.seed, "new symbols"))
    for name in PADDED_TENSORS:
        if name in weights:
            weights[name] = resize_embedding(weights[name], old_size, model, generator)
    model.load_state_dict(weights)
    return model, initial.vocab_size > old_size


def resize_embedding(table: Tensor, old_size: int, model: GPT, generator: torch.Generator) -> Tensor:
    """Return a table (padded V, C) with the first rows of another, and new rows drawn with the same deviation."""
    config = model.config
    resized = table.new_zeros(config.padded_vocab_size, table.size(1))
    resized[:old_size] = table[:old_size]
    resized[old_size : config.vocab_size].normal_(0, float(table[:old_size].std()), generator=generator)
    return resized


def prepare_parameters(model: nn.Module, gpt: GPT, initial: InitialModel, has_new_tokens: bool) -> None:
    """Apply LoRA and freeze parameters. With LoRA, the tables that hold new tokens are trained too.

    Raises UsageError (2) if no parameter is left to train.
    """
    if initial.lora.rank:
        apply_lora(model, initial.lora, initial.seed)
        for table in (gpt.embedding, gpt.head):
            if has_new_tokens and table is not None:
                table.requires_grad_(True)
    frozen = [gpt.embedding, gpt.positions, *gpt.blocks[: initial.freeze_layers]] if initial.freeze_layers else []
    for module in frozen:
        if module is not None:
            module.requires_grad_(False)
    freeze_parameters(gpt, initial.freeze)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UsageError("all parameters are frozen", "freeze fewer: see freeze and freeze_layers")


def freeze_parameters(model: nn.Module, globs: tuple[str, ...]) -> None:
    """Freeze the parameters whose names match a glob. Raises UsageError (2) for a glob that matches none."""
    for glob in globs:
        matching = [parameter for name, parameter in model.named_parameters() if fnmatch.fnmatch(name, glob)]
        if not matching:
            names = ", ".join(name for name, _ in list(model.named_parameters())[:6])
            raise UsageError(f"freeze: no parameter matches '{glob}'", f"names are {names} and so on; globs work")
        for parameter in matching:
            parameter.requires_grad_(False)
