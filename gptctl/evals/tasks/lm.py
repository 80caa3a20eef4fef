"""Let a language model foretell each document: nats, bytes and tokens.

Every token of the text is scored once; the end-of-text token stands before a document and is not scored, unless
count_eos asks for the one after it. Bytes are those of the text as UTF-8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from math import fsum
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from gptctl.core.errors import DataError
from gptctl.evals.inference import scoring_windows
from gptctl.evals.inference.loaded_model import Answers, Asked, Prepared, Settings, nats_of
from gptctl.evals.scoring.metric_results import Rows, Values
from gptctl.infer.score import Request

if TYPE_CHECKING:
    import torch

ROWS = "nats"


def prepare(table: pa.Table, asked: Asked, settings: Settings) -> Prepared:
    """Cut each document into windows. Raises DataError (3) where the tokenizer loses text, which flatters bits."""
    texts: list[str] = table["text"].to_pylist()
    ids: list[str] = table["id"].to_pylist()
    end, context = asked.coder.end_of_text_id, asked.context(settings)
    documents = asked.coder.encode_to_arrays(texts)
    for identity, text, tokens in zip(ids, texts, documents, strict=True):
        if not settings.allow_lossy and asked.coder.decode(tokens) != text:
            raise DataError(
                f"the tokenizer loses text of '{identity}': decode(encode(x)) differs from x",
                "bits per byte would flatter it; use a lossless tokenizer (bpe, bytes), or --set allow_lossy=true",
            )
    if settings.count_eos:
        documents = [np.append(tokens, end) for tokens in documents]
    windows = [scoring_windows.cut(tokens, end, context, settings.stride or context) for tokens in documents]
    ends = [0, *accumulate(map(len, windows))]

    def finish(answers: Answers) -> Rows:
        nats = [fsum(answers["nats"][first:last]) for first, last in pairwise(ends)]
        return [
            {"id": identity, "nats": value, "bytes": len(text.encode()), "tokens": len(tokens)}
            for identity, value, text, tokens in zip(ids, nats, texts, documents, strict=True)
        ]

    return Prepared([Request(*window) for document in windows for window in document], finish)


def answer(
    asked: Asked, pieces: Sequence[Request], settings: Settings, device: torch.device, each: Callable[[int], None]
) -> Answers:
    """Give each window's nats."""
    return nats_of(asked, pieces, settings, device, each)


def facts(asked: Asked, settings: Settings) -> Values:
    """Say what the figures depend on: the context, the stride, and for perplexity the tokenizer."""
    context = asked.context(settings)
    return {
        "context": context,
        "stride": settings.stride or context,
        "count_eos": settings.count_eos,
        "tokenizer": asked.coder.hash,
    }
