"""Generation: continue prompts with a language model, greedily, for question answering and translation.

Rows have `text` (the prompt) and `label` (the expected continuation, or a list of equally good ones). Generated text
ends before a token at which the model stops, such as end-of-text, before the first stop text, or after max_tokens. A
prompt that is too long loses its beginning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from gptctl.core.errors import DataError, UsageError
from gptctl.evals.inference.loaded_model import LoadedModel
from gptctl.evals.inference.options import InferenceOptions
from gptctl.evals.tasks import Outputs
from gptctl.infer.request import Request
from gptctl.io.input.predictions import Rows

if TYPE_CHECKING:
    import torch

PREDICTION_TYPE = "texts"


@dataclass(frozen=True)
class GenerateRequests:
    """One request per prompt."""

    ids: list[str]
    labels: list[Any]
    stop: tuple[str, ...]
    requests: list[Request]

    def to_rows(self, outputs: Outputs) -> Rows:
        """Return the generated text of each prompt, up to the first stop text, without white space at its ends."""
        return [
            {"id": identity, "label": label, "pred": text_before_stop(text, self.stop).strip()}
            for identity, label, text in zip(self.ids, self.labels, outputs["text"], strict=True)
        ]


def build_requests(table: pa.Table, model: LoadedModel, options: InferenceOptions) -> GenerateRequests:
    """Build a request for each prompt. Raises DataError (3) if there is no column of labels."""
    if options.label_column not in table.column_names:
        raise DataError(
            f"DATA has no column '{options.label_column}'; it has: {', '.join(table.column_names)}",
            "name the column of expected texts with --label-column",
        )
    prompt_length = model.max_length(options) - options.max_tokens
    if prompt_length < 1:
        raise UsageError(
            f"max_tokens is {options.max_tokens}, and the model reads {model.max_length(options)} tokens in all",
            "set a smaller max_tokens",
        )
    prompts = model.tokenizer.encode_to_arrays(table["text"].to_pylist())
    whole = (model.tokenizer.with_prefix(tokens.tolist(), options.add_bos_token) for tokens in prompts)
    requests = [Request(np.array(tokens[-prompt_length:], np.int64), 0) for tokens in whole]
    return GenerateRequests(table["id"].to_pylist(), table[options.label_column].to_pylist(), options.stop, requests)


def run_requests(
    model: LoadedModel, requests: Sequence[Request], options: InferenceOptions, device: torch.device
) -> Outputs:
    """Return the text generated after each prompt."""
    from gptctl.infer.engine import Engine
    from gptctl.infer.sampling import SamplingParams
    from gptctl.model.gpt import GPT

    assert isinstance(model.model, GPT)
    engine = Engine.on_device(model.model, device)
    sampling = SamplingParams(max_tokens=options.max_tokens, temperature=0.0)
    texts: list[str] = []
    for start in range(0, len(requests), options.batch_size):
        prompts = [request.tokens.tolist() for request in requests[start : start + options.batch_size]]
        generated = engine.generate(prompts, sampling, model.stop_ids)
        texts += [model.tokenizer.decode(sample.tokens) for sample in generated]
    return {"text": texts}


def text_before_stop(text: str, stops: Sequence[str]) -> str:
    """Return the part of a text before the first stop text."""
    found = [place for place in (text.find(stop) for stop in stops if stop) if place >= 0]
    return text[: min(found, default=len(text))]


def report_settings(model: LoadedModel, options: InferenceOptions) -> Mapping[str, Any]:
    """Return how much is read at once, how text ends, and the tokenizer's hash."""
    return {
        "context": model.max_length(options),
        "max_tokens": options.max_tokens,
        "stop": list(options.stop),
        "tokenizer": model.tokenizer.hash,
    }
