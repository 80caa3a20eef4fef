"""Drop documents to which a linear model over words gives a low score; the scores become a column.

`gptctl finetune none LABELLED --task filter` trains such a model, and classifiers of fastText are read. Scoring web
pages with one is how Brown et al. 2020, "Language Models are Few-Shot Learners" (appendix A), and Li et al. 2024,
"DataComp-LM", select them.
"""

from __future__ import annotations

import numpy as np
from pydantic import field_validator

from gptctl.core.config import Settings, key
from gptctl.text.arrow_arrays import from_numpy
from gptctl.text.filters import DocumentBatch, FilterResult, Rule

MOST_WORDS = 20  # that are shown
DOCUMENT_COLUMNS = ("id", "text", "source", "reason")


class Config(Settings):
    """Which model scores the documents, and from which score they are kept."""

    model: str | None = key(
        None, "Run folder of finetune --task filter, or a classifier of fastText (.bin, .ftz); also hf://."
    )
    label: str | None = key(
        None,
        "Label whose probability is the score. Default: the one that means good: 1, true, yes, pos, hq, ...",
    )
    threshold: float = key(0.5, "Lowest score at which a document is kept, 0 to 1.", ge=0, le=1)
    keep_fraction: float | None = key(
        None,
        "Share of the documents that is kept instead: those with the highest scores. Reads the input twice.",
        gt=0,
        le=1,
    )
    score_column: str = key("quality_score", "Column for the scores; it replaces one of this name.", min_length=1)

    @field_validator("label", mode="before")
    @classmethod
    def as_text(cls, value: object) -> object:
        """Turn a number, as TOML and --set read it, into text."""
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("score_column")
    @classmethod
    def own_column(cls, value: str) -> str:
        """Reject a column that every document has."""
        if value in DOCUMENT_COLUMNS:
            raise ValueError(f"'{value}' is a column of the documents; choose another name")
        return value

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        return {} if self.keep_fraction is None else {"threshold": "beside classifier.keep_fraction"}


def rules(config: Config) -> tuple[Rule, ...]:
    """Return the rule on the score. With `keep_fraction`, `threshold` is the lowest score of the best share."""
    name = "threshold" if config.keep_fraction is None else "keep_fraction"
    return (Rule(name, "score of the classifier", config.threshold, "below"),)


def measure(batch: DocumentBatch, config: Config) -> FilterResult:
    """Score each document, and add the column of scores. Without a model, nothing is measured."""
    if config.model is None:
        return FilterResult(np.full((len(batch), 1), np.nan))
    from gptctl.text.word_models.open_model import label_position, open_word_model

    model = open_word_model(config.model)
    position = label_position(model.labels, config.label, config.model)
    scores = model.probabilities(batch.text)[:, position].astype(np.float32)
    return FilterResult(scores.astype(np.float64)[:, None], columns={config.score_column: from_numpy(scores)})


def explain(text: str, config: Config) -> dict[str, float]:
    """Return the words that decided, with what each adds to the log odds of the label. The largest come first."""
    if config.model is None:
        return {}
    from gptctl.text.word_models.open_model import label_position, open_word_model

    model = open_word_model(config.model)
    weights = model.weights_of(text, label_position(model.labels, config.label, config.model))
    return dict(sorted(weights.items(), key=lambda item: (-abs(item[1]), item[0]))[:MOST_WORDS])


def fingerprints(config: Config) -> dict[str, str]:
    """Return the hash of the model. Raises an error if the model, or its label, cannot be used."""
    if config.model is None:
        return {}
    from gptctl.text.word_models.open_model import label_position, model_fingerprint, open_word_model

    label_position(open_word_model(config.model).labels, config.label, config.model)
    return {"classifier.model": model_fingerprint(config.model)}
