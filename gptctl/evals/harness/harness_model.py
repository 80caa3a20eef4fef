"""A model as lm-evaluation-harness uses it. Imported only if that package is installed.

It follows the conventions of the harness's own model `hf`. A context that is too long loses its beginning; a
continuation never loses its end. A rolling log-likelihood scores every token of a text once. What precedes a context is
what precedes a text in training: in models of gptctl end-of-text, in those of other programs what their tokenizer adds,
mostly BOS, or nothing. An empty context is BOS, or end-of-text where there is none.
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
        self.stop_ids = loaded.stop_ids
        self.options = spec.options
        self.max_length = loaded.max_length(spec.options)
        self.torch_device = torch.device(spec.device)

    @property
    def eot_token_id(self) -> int:
        """Return the id of the token that stands for an empty context."""
        return int(self.text_tokenizer.start_id)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **more: Any) -> list[int]:
        """Encode a text after the tokens that precede a text, unless `add_special_tokens` is False."""
        ids = self.text_tokenizer.encode(string)
        return ids if add_special_tokens is False else self.with_prefix(ids)

    def with_prefix(self, ids: list[int]) -> list[int]:
        """Return tokens after those that precede a text."""
        return self.text_tokenizer.with_prefix(ids, self.options.add_bos_token)

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[tuple[str, str], list[int], list[int]]], **more: Any
    ) -> list[tuple[float, bool]]:
        """Return the log-likelihood of each continuation, and whether each of its tokens was the most probable."""
        scored = [
            continuation_request(context, target, self.max_length, texts[0][:40]) for texts, context, target in requests
        ]
        scores = score_requests(self.model, scored, self.options.batch_size, self.torch_device)
        results = [(-nats, greedy) for nats, greedy in zip(scores.nll.tolist(), scores.is_greedy.tolist(), strict=True)]
        for (texts, _, _), result in zip(requests, results, strict=True):
            self.cache_hook.add_partial("loglikelihood", texts, result)
        return results

    def rolling_tokens(self, text: str) -> list[int]:
        """Return the tokens that are scored. As in `hf`, the BOS that other programs' tokenizers add is one of them."""
        ids = self.text_tokenizer.encode(text)
        return self.with_prefix(ids) if self.text_tokenizer.special and ids else ids

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Return the log-likelihood of each whole text."""
        texts = [request.args[0] for request in requests]
        stride = self.options.stride or self.max_length
        windows = [
            window_requests(np.array(self.rolling_tokens(text), np.int64), self.eot_token_id, self.max_length, stride)
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
            tokens = self.with_prefix(self.text_tokenizer.encode(prompt))[-prompt_length:]
            sample = engine.generate([tokens], sampling, self.stop_ids, number)[0]
            stop_texts = [stops] if isinstance(stops, str) else stops
            text = text_before_stop(self.text_tokenizer.decode(sample.tokens), stop_texts)
            self.cache_hook.add_partial("generate_until", (prompt, arguments), text)
            generated.append(text)
        return generated
