"""Language modelling: how well does a language model predict each document, in nats, with its bytes and tokens?

Every token of the text is scored once. The token before a document (end-of-text, or BOS in other programs' models) is
context and not scored; the end-of-text token after it is scored only with count_eos. Bytes are those of the text in
UTF-8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import fsum
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from gptctl.core.errors import DataError
from gptctl.evals.inference.loaded_model import LoadedModel
from gptctl.evals.inference.log_likelihood import score_nats
from gptctl.evals.inference.options import InferenceOptions
from gptctl.evals.inference.scoring_windows import window_requests
from gptctl.evals.tasks import Outputs
from gptctl.infer.request import Request
from gptctl.io.input.predictions import Rows

if TYPE_CHECKING:
    import torch

PREDICTION_TYPE = "lm_scores"


@dataclass(frozen=True)
class WindowRequests:
    """One request per window of a document. `tokens` counts the scored tokens of each document."""

    ids: list[str]
    texts: list[str]
    tokens: list[int]
    windows: list[list[Request]]

    @property
    def requests(self) -> list[Request]:
        """Return the windows of all documents."""
        return [window for document in self.windows for window in document]

    def to_rows(self, outputs: Outputs) -> Rows:
        """Return the nats, bytes and tokens of each document."""
        ends = [0, *accumulate(map(len, self.windows))]
        nats = [fsum(outputs["nats"][first:last]) for first, last in pairwise(ends)]
        return [
            {"id": identity, "nats": value, "bytes": len(text.encode()), "tokens": tokens}
            for identity, value, text, tokens in zip(self.ids, nats, self.texts, self.tokens, strict=True)
        ]


def build_requests(table: pa.Table, model: LoadedModel, options: InferenceOptions) -> WindowRequests:
    """Cut each document into windows.

    Raises DataError (3) for a text that the tokenizer cannot restore: bits per byte would be too low.
    """
    ids: list[str] = table["id"].to_pylist()
    texts: list[str] = table["text"].to_pylist()
    if not any(texts) and not options.count_eos:
        raise DataError(
            "all documents are empty, so there is no token to score", "check the text column: --text-column"
        )
    tokenizer, max_length = model.tokenizer, model.max_length(options)
    documents = tokenizer.encode_to_arrays(texts)
    for identity, text, tokens in zip(ids, texts, documents, strict=True):
        if not options.allow_lossy and tokenizer.decode(tokens) != text:
            raise DataError(
                f"the tokenizer loses text of '{identity}': decode(encode(x)) differs from x",
                "bits per byte would be too low; use a lossless tokenizer (bpe, bytes), or --set allow_lossy=true",
            )
    if options.count_eos:
        documents = [np.append(tokens, tokenizer.end_of_text_id) for tokens in documents]
    stride = options.stride or max_length
    windows = [window_requests(tokens, tokenizer.start_id, max_length, stride) for tokens in documents]
    return WindowRequests(ids, texts, [len(tokens) for tokens in documents], windows)


def run_requests(
    model: LoadedModel, requests: Sequence[Request], options: InferenceOptions, device: torch.device
) -> Outputs:
    """Return the nats of each window."""
    return score_nats(model, requests, options.batch_size, device)


def report_settings(model: LoadedModel, options: InferenceOptions) -> Mapping[str, Any]:
    """Return the window, the stride, whether end-of-text is scored, and the tokenizer's hash."""
    max_length = model.max_length(options)
    return {
        "context": max_length,
        "stride": options.stride or max_length,
        "count_eos": options.count_eos,
        "tokenizer": model.tokenizer.hash,
    }
