"""Label each text, or pair of texts, with a finetuned classifier, read as in its training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from gptctl.core.errors import DataError
from gptctl.evals.inference.loaded_model import Answers, Asked, Prepared, Settings
from gptctl.evals.scoring.metric_results import Rows, Values
from gptctl.infer.score import Request
from gptctl.pipeline.labelled_data import labels_of
from gptctl.text.classifier_inputs import Framing, pairs_of

if TYPE_CHECKING:
    import torch

ROWS = "labels"


def prepare(table: pa.Table, asked: Asked, settings: Settings) -> Prepared:
    """Give each text's tokens, its sequences end to end.

    Raises DataError (3) for a missing label or second text, and for a model without names of labels.
    """
    if not asked.label_names or asked.framing is None:
        raise DataError("the classifier has no names for its labels", "finetune it with: gptctl finetune MODEL DATA")
    gold = labels_of(table, settings.label_column, "DATA")
    framing = framing_of(asked, settings)
    hint = "the model was finetuned on pairs: give DATA that column"
    pairs = pairs_of(table, asked.coder, asked.pair_column, "DATA", hint)
    pieces = [Request(np.concatenate(framing.frame(*pair)), 0) for pair in pairs]

    def finish(answers: Answers) -> Rows:
        return [
            {
                "id": identity,
                "label": label,
                "pred": asked.label_names[max(range(len(probs)), key=probs.__getitem__)],
                "probs": probs,
                "truncated": framing.truncates(*pair),
            }
            for identity, label, probs, pair in zip(table["id"].to_pylist(), gold, answers["probs"], pairs, strict=True)
        ]

    return Prepared(pieces, finish)


def framing_of(asked: Asked, settings: Settings) -> Framing:
    """Return the model's way to read texts, perhaps with fewer tokens at once."""
    assert asked.framing is not None
    return replace(asked.framing, context=min(asked.framing.context, asked.context(settings)))


def answer(
    asked: Asked, pieces: Sequence[Request], settings: Settings, device: torch.device, each: Callable[[int], None]
) -> Answers:
    """Give each text's probabilities."""
    from gptctl.infer.classify import label_probabilities
    from gptctl.model.classifier import Classifier

    assert isinstance(asked.model, Classifier)
    assert asked.framing is not None
    start = asked.framing.start  # stands at the begin of each sequence and nowhere else
    texts = [np.split(piece.tokens, np.flatnonzero(piece.tokens == start)[1:]) for piece in pieces]
    return {"probs": label_probabilities(asked.model, texts, settings.batch_size, device, each).tolist()}


def facts(asked: Asked, settings: Settings) -> Values:
    """Say how much of a text was read."""
    framing = framing_of(asked, settings)
    return {"context": framing.context, "long_documents": framing.long_documents}
