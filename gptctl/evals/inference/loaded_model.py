"""A model in memory, with its tokenizer and what its training recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from gptctl.core.errors import UsageError
from gptctl.evals.inference.options import InferenceOptions
from gptctl.text.classifier_inputs import ClassifierInputs
from gptctl.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from gptctl.model.classifier import Classifier
    from gptctl.model.gpt import GPT


@dataclass(frozen=True)
class LoadedModel:
    """A language model or a classifier.

    A classifier has the names of its labels, the form of its inputs, and for pairs of texts the column of
    the second one. `trained_on` holds the fingerprints of the files that it was finetuned on, by name. `stop_ids` are
    the tokens that end a generated text.
    """

    model: GPT | Classifier
    tokenizer: Tokenizer
    label_names: tuple[str, ...] = ()
    classifier_inputs: ClassifierInputs | None = None
    pair_column: str | None = None
    trained_on: Mapping[str, str] = field(default_factory=dict)
    stop_ids: tuple[int, ...] = ()

    @property
    def is_classifier(self) -> bool:
        """Return whether the model is a classifier, not a language model."""
        from gptctl.model.classifier import Classifier

        return isinstance(self.model, Classifier)

    def max_length(self, options: InferenceOptions) -> int:
        """Return how many tokens are read at once. Raises UsageError (2) for more than the model can read."""
        limit = self.model.config.max_seq_len
        if options.max_length > limit:
            raise UsageError(
                f"max_length is {options.max_length}, the model reads {limit} tokens", "set a smaller max_length"
            )
        return options.max_length or limit


@lru_cache(maxsize=2)
def load(folder: str, fingerprint: str) -> LoadedModel:
    """Load a model, once per process; `fingerprint` distinguishes models in the same folder. Raises as `load_model`."""
    from gptctl.model.folder import load_model

    saved = load_model(Path(folder))
    model, extra, tokenizer = saved.model, saved.extra, saved.tokenizer()
    loaded = LoadedModel(
        model,
        tokenizer,
        tuple(extra.get("label_names", ())),
        ClassifierInputs.from_json(extra["classifier_inputs"]) if extra.get("classifier_inputs") else None,
        extra.get("pair_column"),
        extra.get("data", {}),
        tokenizer.stop_ids(extra),
    )
    if loaded.is_classifier and len(loaded.label_names) != model.labels:
        return replace(loaded, label_names=())
    return loaded
