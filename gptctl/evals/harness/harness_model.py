"""A model as lm-evaluation-harness uses it. Imported only if that package is installed.

It follows the harness's conventions. An empty context is end-of-text. A context that is too long loses its beginning; a
continuation never loses its end. A rolling log-likelihood scores every token of a text once. Every context is preceded
by end-of-text, as every document was in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lm_eval.api.model import TemplateLM

from gptctl.core.errors import DataError
from gptctl.evals.inference.log_likelihood import continuation_request
from gptctl.evals.inference.scoring_windows import window_requests
from gptctl.evals.inference.worker import InferenceSpec
from gptctl.evals.tasks.generate import text_before_stop
from gptctl.infer.engine import Engine
from gptctl.infer.sampling import SamplingParams
from gptctl.infer.score import score_requests
from gptctl.model.gpt import GPT


class HarnessModel(TemplateLM):  # type: ignore[misc]
    """Answers the three types of requests of the harness: log-likelihood, rolling log-likelihood, generation."""

    def __init__(self, spec: InferenceSpec) -> None:
        super().__init__()
        loaded = spec.load()
        if not isinstance(loaded.model, GPT):
            raise DataError("--harness needs a language model, not a classifier", "see: gptctl eval MODEL DATA")
        self.model = loaded.model
        self.text_tokenizer = loaded.tokenizer
        self.options = spec.options
        self.max_length = loaded.max_length(spec.options)
        self.torch_device = torch.device(spec.device)

    @property
    def eot_token_id(self) -> int:
        """Return the id of end-of-text, which precedes every document."""
        return int(self.text_tokenizer.end_of_text_id)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **more: Any) -> list[int]:
        """Encode a text without adding special tokens."""
        return self.text_tokenizer.encode(string)

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[tuple[str, str], list[int], list[int]]], **more: Any
    ) -> list[tuple[float, bool]]:
        """Return the log-likelihood of each continuation, and whether each of its tokens was the most probable."""
        begin = self.eot_token_id
        scored = [
            continuation_request(
                context if context[:1] == [begin] else [begin, *context], target, self.max_length, texts[0][:40]
            )
            for texts, context, target in requests
        ]
        scores = score_requests(self.model, scored, self.options.batch_size, self.torch_device)
        results = [(-nats, greedy) for nats, greedy in zip(scores.nll.tolist(), scores.is_greedy.tolist(), strict=True)]
        for (texts, _, _), result in zip(requests, results, strict=True):
            self.cache_hook.add_partial("loglikelihood", texts, result)
        return results

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Return the log-likelihood of each whole text."""
        texts = [request.args[0] for request in requests]
        stride = self.options.stride or self.max_length
        windows = [
            window_requests(
                np.array(self.text_tokenizer.encode(text), np.int64), self.eot_token_id, self.max_length, stride
            )
            for text in texts
        ]
        scored = [window for document in windows for window in document]
        nats = score_requests(self.model, scored, self.options.batch_size, self.torch_device).nll
        text_of = np.repeat(np.arange(len(texts)), [len(document) for document in windows])
        sums: list[float] = (-np.bincount(text_of, nats, len(texts))).tolist()
        for text, value in zip(texts, sums, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), value)
        return sums

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Continue each prompt up to its first stop text; greedily, unless the task sets a temperature."""
        generated: list[str] = []
        engine = Engine.on_device(self.model, self.torch_device)
        for number, request in enumerate(requests):
            prompt, arguments = request.args
            stops = arguments.get("until") or []
            max_tokens = min(int(arguments.get("max_gen_toks", self.options.max_tokens)), self.max_length - 1)
            sampling = SamplingParams(
                max_tokens=max_tokens,
                temperature=float(arguments.get("temperature", 0.0)) if arguments.get("do_sample") else 0.0,
                top_p=float(arguments.get("top_p", 1.0)),
            )
            prompt_length = self.max_length - max_tokens
            tokens = [self.eot_token_id, *self.text_tokenizer.encode(prompt)][-prompt_length:]
            sample = engine.generate([tokens], sampling, (self.eot_token_id,), number)[0]
            stop_texts = [stops] if isinstance(stops, str) else stops
            text = text_before_stop(self.text_tokenizer.decode(sample.tokens), stop_texts)
            self.cache_hook.add_partial("generate_until", (prompt, arguments), text)
            generated.append(text)
        return generated
