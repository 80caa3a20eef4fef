"""Let a language model choose: which of several continuations of a context does it find likeliest?

Rows have `context`, `choices` (a list of texts) and `label` (the right one, or its number from 0). What is scored is
the delimiter and the choice, after end-of-text and the context. Context and choice are encoded together and cut where
the context's own tokens end; white space at the context's end goes to the choice (Gao et al., lm-evaluation-harness).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from gptctl.core.errors import DataError
from gptctl.evals.inference.loaded_model import Answers, Asked, Prepared, Settings, nats_of
from gptctl.evals.scoring.metric_results import Rows, Values
from gptctl.infer.score import Request
from gptctl.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch

ROWS = "choices"


def prepare(table: pa.Table, asked: Asked, settings: Settings) -> Prepared:
    """Return a piece for each choice. Raises DataError (3) for rows without choices, and for one that can't be read."""
    rows = questions(table, settings.label_column)
    pieces: list[Request] = []
    for row in rows:
        for choice in row["choices"]:
            context, target = encode_pair(asked.coder, row["context"], settings.delimiter + choice)
            pieces.append(fit(asked.coder.end_of_text_id, context, target, asked.context(settings), row["id"]))
    ends = [0, *accumulate(len(row["choices"]) for row in rows)]

    def finish(answers: Answers) -> Rows:
        return [
            {
                "id": row["id"],
                "label": row["label"],
                "choices": row["choices"],
                "loglik": [-nats for nats in answers["nats"][first:last]],
                "tokens": [piece.num_targets for piece in pieces[first:last]],
            }
            for row, (first, last) in zip(rows, pairwise(ends), strict=True)
        ]

    return Prepared(pieces, finish)


def questions(table: pa.Table, label_column: str) -> Rows:
    """Take contexts, choices and labels out of the documents."""
    for column in ("choices", label_column):
        if column not in table.column_names:
            raise DataError(
                f"DATA has no column '{column}'; it has: {', '.join(table.column_names)}",
                "rows of multiple choice have context, choices and label",
            )
    columns = (table[name].to_pylist() for name in ("id", "text", "choices", label_column))
    rows = []
    for identity, context, choices, label in zip(*columns, strict=True):
        if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(c, str) and c for c in choices):
            raise DataError(f"id '{identity}' has no list of two or more texts in choices", "correct or remove the row")
        rows.append({"id": identity, "context": context, "choices": choices, "label": label})
    return rows


def encode_pair(coder: Tokenizer, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Return the tokens of a context and of what follows it."""
    bare = context.rstrip()
    continuation = context[len(bare) :] + continuation
    first, whole = coder.encode(bare) if bare else [], coder.encode(bare + continuation)
    if whole[: len(first)] == first and len(whole) > len(first):
        return first, whole[len(first) :]
    return first, coder.encode(continuation)  # a token reaches over the border: keep both sides whole


def fit(begin_id: int, context: list[int], target: list[int], most: int, identity: str) -> Request:
    """Put end-of-text, context and target together; a context that is too long loses its begin, a target nothing."""
    if not target or len(target) > most:
        raise DataError(
            f"id '{identity}' has a choice of {len(target)} tokens, the model reads {most}", "shorten the choice"
        )
    tokens = np.array([begin_id, *context, *target][-(most + 1) :], np.int64)
    return Request(tokens, len(target))


def answer(
    asked: Asked, pieces: Sequence[Request], settings: Settings, device: torch.device, each: Callable[[int], None]
) -> Answers:
    """Give each choice's nats."""
    return nats_of(asked, pieces, settings, device, each)


def facts(asked: Asked, settings: Settings) -> Values:
    """Say how choices were put to the model."""
    return {
        "context": asked.context(settings),
        "delimiter": settings.delimiter,
        "tokenizer": asked.coder.hash,
    }
