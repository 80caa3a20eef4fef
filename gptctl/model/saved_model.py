"""A model that was read from a folder, and how stored weights get into a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from gptctl.core.errors import DataError
from gptctl.model.classifier import Classifier
from gptctl.model.config import ModelConfig
from gptctl.model.files import tensor_files
from gptctl.model.gpt import GPT
from gptctl.model.vocab_padding import pad_vocab
from gptctl.text.special_tokens import SpecialTokens
from gptctl.text.tokenizer import Tokenizer


class SavedModel(NamedTuple):
    """The content of a model folder. `extra` holds other values of its config.json, such as the names of labels."""

    model: GPT | Classifier
    config: ModelConfig
    tokenizer_json: str
    extra: dict[str, Any]

    def tokenizer(self) -> Tokenizer:
        """Parse the tokenizer. Raises DataError (3) if it is not valid."""
        return Tokenizer.from_json(self.tokenizer_json, SpecialTokens.from_extra(self.extra))


def load_weights_into(model: GPT | Classifier, folder: Path) -> None:
    """Load the weights of a folder with our names into a model, which may be in training.

    Raises DataError (3) if a name or a shape does not fit.
    """
    assign_weights(model, tensor_files.read_weights(folder), folder)


def assign_weights(model: GPT | Classifier, stored: Mapping[str, Tensor], folder: Path) -> None:
    """Load tensors with our names into a model, which may be on the meta device or in training.

    Raises DataError (3) if a name or a shape does not fit.
    """
    padded = {name: pad_vocab(name, tensor, model.config) for name, tensor in stored.items()}
    gpt = model.gpt if isinstance(model, Classifier) else model
    is_meta = gpt.embedding.weight.is_meta
    try:
        # Otherwise the tensors are copied in place, so that an optimizer that was built over the model stays valid.
        model.load_state_dict(padded, assign=is_meta)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise DataError(
            f"the weights in {folder} do not fit the model: {reason}", "check the folder; see gptctl doctor"
        ) from error
    if is_meta:
        gpt.make_tables()
