"""What a finetuning task starts from, and what it prepares for the training job."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from gptctl.io.input.blocks import UnreadableRecord
from gptctl.model.config import ModelConfig
from gptctl.text.tokenizer import Tokenizer
from gptctl.train.data.data_source import DataSource, TrainSource
from gptctl.train.data.phases import MixturePhase
from gptctl.train.job import ModelSource
from gptctl.train.tasks.initial_models import InitialModel

SPLITS = ("train", "val")


@dataclass(frozen=True)
class TaskInputs:
    """The texts, and the model that is finetuned."""

    tables: Mapping[str, pa.Table]  # by split
    initial: InitialModel
    model_config: ModelConfig
    tokenizer: Tokenizer
    metadata: Mapping[str, Any]  # of the model folder, e.g. its chat template
    seed: int
    warn: Callable[[str], None]

    def kept_metadata(self, *names: str) -> dict[str, Any]:
        """Return some of the model's metadata, and always its special tokens and generation settings."""
        kept = ("special_tokens", "generation_config", *names)
        return {name: self.metadata[name] for name in kept if name in self.metadata}

    def initial_for(self, tokenizer: Tokenizer) -> InitialModel:
        """Return the initial model with room for the tokens of a tokenizer."""
        return replace(self.initial, vocab_size=max(self.model_config.vocab_size, tokenizer.vocab_size))


@dataclass(frozen=True)
class FinetuneTask:
    """A task that is ready for training. The callables are picklable."""

    model: ModelSource
    train_sources: tuple[TrainSource, ...]
    val_data: Callable[[], DataSource]
    train_samples: int  # per epoch
    objective: str  # a file in gptctl/train/objectives
    select_on: str  # the metric on val that selects the best weights
    tokenizer: Tokenizer  # with the special tokens of the task
    metadata: dict[str, Any] = field(default_factory=dict)  # for the model folder
    label_weights: tuple[float, ...] = ()
    phases: tuple[MixturePhase, ...] = ()  # of several sources
    quarantined: tuple[UnreadableRecord, ...] = ()  # texts that are left out
