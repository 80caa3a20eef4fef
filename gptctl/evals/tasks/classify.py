"""Label each text with a finetuned classifier; a text longer than the context is cut to its head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from gptctl.core.errors import DataError
from gptctl.evals.asked import Answers, Asked, Prepared, Settings
from gptctl.evals.measured import Rows, Values
from gptctl.infer.score import Piece
from gptctl.io.labelled import labels_of

if TYPE_CHECKING:
    import torch

ROWS = "labels"


def prepare(table: pa.Table, asked: Asked, settings: Settings) -> Prepared:
    """Give each text's tokens. Raises DataError (3) for a missing label, and for a model without names of labels."""
    from gptctl.infer.classify import fit_context

    if not asked.label_names:
        raise DataError("the classifier has no names for its labels", "finetune it with: gptctl finetune MODEL DATA")
    gold = labels_of(table, settings.label_column, "DATA")
    context = asked.context(settings)
    tokens = asked.coder.encode_each(table["text"].to_pylist())
    pieces = [Piece(fit_context(text, asked.coder.end_of_text_id, context), 0) for text in tokens]

    def finish(answers: Answers) -> Rows:
        return [
            {
                "id": identity,
                "label": label,
                "pred": asked.label_names[max(range(len(probs)), key=probs.__getitem__)],
                "probs": probs,
                "truncated": len(text) >= context,
            }
            for identity, label, probs, text in zip(
                table["id"].to_pylist(), gold, answers["probs"], tokens, strict=True
            )
        ]

    return Prepared(pieces, finish)


def answer(
    asked: Asked, pieces: Sequence[Piece], settings: Settings, device: torch.device, each: Callable[[int], None]
) -> Answers:
    """Give each text's probabilities."""
    from gptctl.infer.classify import probabilities
    from gptctl.model.classifier import Classifier

    assert isinstance(asked.model, Classifier)
    found = probabilities(asked.model, [piece.tokens for piece in pieces], settings.batch_size, device, each)
    return {"probs": found.tolist()}


def facts(asked: Asked, settings: Settings) -> Values:
    """Say how much of a text was read."""
    return {"context": asked.context(settings)}
