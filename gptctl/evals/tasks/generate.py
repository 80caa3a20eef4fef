"""Let a language model continue prompts with the likeliest tokens, for question answering and translation.

Rows have `text` (the prompt) and `label` (the wanted continuation, or a list of equally good ones). The text ends
before end-of-text, before the first of the stop texts, or after max_tokens. A prompt that is too long keeps its tail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from gptctl.core.errors import DataError, UsageError
from gptctl.evals.inference.loaded_model import Answers, Asked, Prepared, Settings
from gptctl.evals.scoring.metric_results import Rows, Values
from gptctl.infer.score import Request

if TYPE_CHECKING:
    import torch

ROWS = "texts"


def prepare(table: pa.Table, asked: Asked, settings: Settings) -> Prepared:
    """Give each prompt's tokens. Raises DataError (3) where there is no column of labels."""
    if settings.label_column not in table.column_names:
        raise DataError(
            f"DATA has no column '{settings.label_column}'; it has: {', '.join(table.column_names)}",
            "name the column of wanted texts with --label-column",
        )
    room = asked.context(settings) - settings.max_tokens
    if room < 1:
        raise UsageError(
            f"max_tokens is {settings.max_tokens}, which fills the context of {asked.context(settings)} tokens",
            "give a smaller max_tokens",
        )
    prompts = asked.coder.encode_to_arrays(table["text"].to_pylist())
    end = asked.coder.end_of_text_id
    pieces = [Request(np.append(end, tokens).astype(np.int64)[-room:], 0) for tokens in prompts]

    def finish(answers: Answers) -> Rows:
        columns = (table["id"].to_pylist(), table[settings.label_column].to_pylist(), answers["text"])
        return [
            {"id": identity, "label": label, "pred": before_stop(text, settings.stop).strip()}
            for identity, label, text in zip(*columns, strict=True)
        ]

    return Prepared(pieces, finish)


def answer(
    asked: Asked, pieces: Sequence[Request], settings: Settings, device: torch.device, each: Callable[[int], None]
) -> Answers:
    """Return the text that follows each prompt."""
    from gptctl.infer.engine import Engine
    from gptctl.infer.sampling import SamplingParams
    from gptctl.model.gpt import GPT

    assert isinstance(asked.model, GPT)
    engine = Engine(asked.model.to(device))
    sampling = SamplingParams(max_tokens=settings.max_tokens, temperature=0.0)
    texts: list[str] = []
    for start in range(0, len(pieces), settings.batch_size):
        prompts = [piece.tokens.tolist() for piece in pieces[start : start + settings.batch_size]]
        made = engine.generate(prompts, sampling, (asked.coder.end_of_text_id,))
        texts += [asked.coder.decode(sample.tokens) for sample in made]
        each(len(texts))
    return {"text": texts}


def before_stop(text: str, stops: Sequence[str]) -> str:
    """Cut a text before the first of the stop texts."""
    found = [place for place in (text.find(stop) for stop in stops if stop) if place >= 0]
    return text[: min(found, default=len(text))]


def facts(asked: Asked, settings: Settings) -> Values:
    """Say how text was generated."""
    return {
        "context": asked.context(settings),
        "max_tokens": settings.max_tokens,
        "stop": list(settings.stop),
        "tokenizer": asked.coder.hash,
    }
