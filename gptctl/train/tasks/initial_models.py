"""The models that finetuning starts from. Each rank builds its own, all with the same weights."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from gptctl.core.errors import DataError, UsageError
from gptctl.core.seeds import derive
from gptctl.model.classifier import Classifier, Pooling, init_label_head
from gptctl.model.config import ModelConfig
from gptctl.model.files.lazy_tensor import LazyTensor
from gptctl.model.folder import open_model_weights
from gptctl.model.gpt import GPT
from gptctl.model.hf.adapter_format import UPDATE_TENSORS
from gptctl.model.lora import apply_lora, init_lora
from gptctl.model.lora_config import LoraConfig
from gptctl.model.meta_init import meta_init
from gptctl.model.tensor_part import TensorPart
from gptctl.model.vocab_padding import PADDED_TENSORS
from gptctl.train.job import Model


@dataclass(frozen=True)
class InitialModel:
    """A model folder, and what is changed before training."""

    folder: Path
    base: ModelConfig  # of the folder's model
    vocab_size: int = 0  # at least the folder's
    dropout: float = 0.0
    seed: int = 0
    lora: LoraConfig = field(default_factory=LoraConfig)
    freeze: tuple[str, ...] = ()
    freeze_layers: int = 0

    def model_config(self) -> ModelConfig:
        """Return the config of the model that is trained."""
        return self.base.model_copy(update={"dropout": self.dropout, "vocab_size": self.vocab_size})


@dataclass(frozen=True)
class PretrainedModel:
    """A language model with a folder's weights, or with `labels` a classifier with a new head."""

    initial: InitialModel
    labels: int = 0
    pooling: Pooling = "last"

    def build(self) -> Model:
        """Return the model on the meta device, without values. The new label head is never frozen."""
        initial, config = self.initial, self.initial.model_config()
        with meta_init():
            gpt = GPT(config)
            model = Classifier(gpt, self.labels, 0, initial.dropout, self.pooling) if self.labels else gpt
        prepare_parameters(model, gpt, initial, config.vocab_size > initial.base.vocab_size)
        if isinstance(model, Classifier):
            model.label_head.requires_grad_(True)
        return model

    def init_weights(self, model: Model, parts: Mapping[str, TensorPart]) -> None:
        """Fill a rank's parts of all parameters, one after the other, from the folder's files."""
        stored = {name.removeprefix("gpt."): tensor for name, tensor in open_model_weights(self.initial.folder).items()}
        generator = torch.Generator().manual_seed(derive(self.initial.seed, "new symbols"))
        for name in PADDED_TENSORS:
            if name in stored:
                stored[name] = resize_embedding(stored[name], self.initial, generator)
        for name, part in parts.items():
            plain = name.removeprefix("gpt.")
            if plain.startswith("label_head.") or plain.endswith(UPDATE_TENSORS):
                continue  # new
            if plain not in stored:
                raise DataError(f"the weights in {self.initial.folder} have no {plain}", "see gptctl doctor")
            part.fill(stored[plain].read())
        if isinstance(model, Classifier):
            init_label_head(parts["label_head.weight"], parts["label_head.bias"], self.initial.seed)
        init_lora(model, parts, self.initial.seed)


def resize_embedding(table: LazyTensor, initial: InitialModel, generator: torch.Generator) -> LazyTensor:
    """Return a table without padding, with rows for new tokens that are drawn with the deviation of the others."""
    old, new = initial.base.vocab_size, initial.vocab_size - initial.base.vocab_size
    if not new:
        return table
    width = table.shape[1]
    deviation = float(table.read()[:old].float().std())
    rows = torch.empty(new, width).normal_(0, deviation, generator=generator)
    return table.map(lambda whole: torch.cat((whole[:old].float(), rows)), torch.Size((old + new, width)))


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
