"""The parts of a pretraining job: the model and its token data. Each rank builds and opens its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gptctl.io.dataset import tokens as token_io
from gptctl.model.config import ModelConfig
from gptctl.model.gpt import GPT
from gptctl.model.initialize import initialize_parts
from gptctl.model.meta_init import meta_init
from gptctl.model.tensor_part import TensorPart
from gptctl.text.packing import Pack
from gptctl.train.data.data_source import DataSource, TrainSource
from gptctl.train.data.mixture import open_val_sources
from gptctl.train.data.packed_documents import PackedDocuments
from gptctl.train.data.token_windows import TokenWindows
from gptctl.train.job import Model
from gptctl.train.tasks.token_sources import TokenSources


@dataclass(frozen=True)
class NewModel:
    """A model that pretraining starts from. Its weights are a function of config and seed."""

    config: ModelConfig
    seed: int

    def build(self) -> GPT:
        """Return the model on the meta device, without values."""
        with meta_init():
            return GPT(self.config)

    def init_weights(self, model: Model, parts: Mapping[str, TensorPart]) -> None:
        """Fill a rank's parts of all parameters."""
        initialize_parts(parts, self.config, self.seed)


@dataclass(frozen=True)
class Opening:
    """How tokens become samples."""

    pack: Pack
    seq_len: int
    seed: int
    end_of_text: int


def train_sources(data: TokenSources, opening: Opening) -> tuple[TrainSource, ...]:
    """Return the training splits of the sources. Each function that opens one is picklable."""
    return tuple(TrainSource(training_data(tokens.folder, opening), name) for name, tokens in data.folders.items())


def training_data(tokens: Path, opening: Opening) -> Callable[[], DataSource]:
    """Return a picklable function that opens the training split with a packing."""
    if opening.pack == "bestfit":
        return partial(open_packed_documents, tokens, opening.seq_len, opening.seed, opening.end_of_text)
    return partial(open_windows, tokens, opening.seq_len, opening.seed, "train")


def val_data(data: TokenSources, opening: Opening) -> Callable[[], DataSource] | None:
    """Return a picklable function that opens the val splits of the sources that have one, or None if none has."""
    opens = {
        name: partial(open_windows, tokens.folder, opening.seq_len, opening.seed, "val")
        for name, tokens in data.folders.items()
        if tokens.count("val") > 1
    }
    if len(data.folders) == 1:
        return next(iter(opens.values()), None)
    return partial(open_val_sources, opens) if opens else None


def open_windows(tokens: Path, seq_len: int, seed: int, split: str) -> TokenWindows:
    """Map a split's shards and cut them into windows."""
    return TokenWindows(token_io.flat_parts(tokens, split), seq_len, seed, split)


def open_packed_documents(tokens: Path, seq_len: int, seed: int, end_of_text: int) -> PackedDocuments:
    """Map the training shards and pack their documents."""
    lengths = token_io.document_lengths(tokens, "train")
    return PackedDocuments(token_io.flat_parts(tokens, "train"), lengths, seq_len, seed, end_of_text)
