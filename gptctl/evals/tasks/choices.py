"""Multiple choice: which of several continuations of a context does a language model find most probable?

Rows have `context`, `choices` (a list of texts) and `label` (the correct choice, or its number from 0). Scored are the
tokens of the delimiter and the choice, after what precedes a text (end-of-text, BOS or nothing) and the context. Both
are encoded together and split where the tokens of the context end; white space at the end of the context belongs to
the choice (as in lm-evaluation-harness, Gao et al.).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from gptctl.core.errors import DataError
from gptctl.evals.inference.loaded_model import LoadedModel
from gptctl.evals.inference.log_likelihood import continuation_request, score_nats
from gptctl.evals.inference.options import InferenceOptions
from gptctl.evals.tasks import Outputs
from gptctl.infer.request import Request
from gptctl.io.input.predictions import Rows
from gptctl.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch

PREDICTION_TYPE = "choices"


@dataclass(frozen=True)
class ChoiceRequests:
    """One request per choice. `questions` are rows of id, context, choices and label."""

    questions: Rows
    requests: list[Request]

    def to_rows(self, outputs: Outputs) -> Rows:
        """Return the log-likelihood and the scored tokens of each choice."""
        ends = [0, *accumulate(len(question["choices"]) for question in self.questions)]
        return [
            {
                "id": question["id"],
                "label": question["label"],
                "choices": question["choices"],
                "loglik": [-nats for nats in outputs["nats"][first:last]],
                "tokens": [request.num_targets for request in self.requests[first:last]],
            }
            for question, (first, last) in zip(self.questions, pairwise(ends), strict=True)
        ]


def build_requests(table: pa.Table, model: LoadedModel, options: InferenceOptions) -> ChoiceRequests:
    """Build a request for each choice. Raises DataError (3) for rows without choices, and for too long a choice."""
    rows = questions(table, options.label_column)
    tokenizer, max_length = model.tokenizer, model.max_length(options)
    requests = []
    for row in rows:
        for choice in row["choices"]:
            context, target = encode_pair(tokenizer, row["context"], options.delimiter + choice)
            context = tokenizer.with_prefix(context, options.add_bos_token)
            requests.append(continuation_request(context, target, max_length, row["id"]))
    return ChoiceRequests(rows, requests)


def questions(table: pa.Table, label_column: str) -> Rows:
    """Return a row of id, context, choices and label for each document. Raises DataError (3) if one is missing."""
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


def encode_pair(tokenizer: Tokenizer, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Return the tokens of a context and of its continuation."""
    stripped = context.rstrip()
    continuation = context[len(stripped) :] + continuation
    first = tokenizer.encode(stripped) if stripped else []
    whole = tokenizer.encode(stripped + continuation)
    if whole[: len(first)] == first and len(whole) > len(first):
        return first, whole[len(first) :]
    return first, tokenizer.encode(continuation)  # a token spans the boundary, so the two are encoded separately


def run_requests(
    model: LoadedModel, requests: Sequence[Request], options: InferenceOptions, device: torch.device
) -> Outputs:
    """Return the nats of each choice."""
    return score_nats(model, requests, options.batch_size, device)


def report_settings(model: LoadedModel, options: InferenceOptions) -> Mapping[str, Any]:
    """Return how much is read at once, the delimiter, and the tokenizer's hash."""
    return {
        "context": model.max_length(options),
        "delimiter": options.delimiter,
        "tokenizer": model.tokenizer.hash,
    }
