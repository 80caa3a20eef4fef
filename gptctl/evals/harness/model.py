"""A model of ours as lm-evaluation-harness sees it. Imported only where that package is installed.

Its conventions are followed: an empty context is end-of-text; a context that is too long loses its begin, never the
continuation its end; a rolling log-likelihood scores every token of a text once. A context is preceded by end-of-text,
as every document was in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from lm_eval.api.model import TemplateLM

from gptctl.core.errors import DataError
from gptctl.evals.inference import scoring_windows
from gptctl.evals.inference.loaded_model import Asked, Settings
from gptctl.evals.tasks.choices import fit
from gptctl.evals.tasks.generate import before_stop
from gptctl.infer.engine import Engine
from gptctl.infer.sampling import SamplingParams
from gptctl.infer.score import Request, score_requests
from gptctl.model.gpt import GPT

if TYPE_CHECKING:
    import torch


class HarnessModel(TemplateLM):  # type: ignore[misc]
    """Answers the harness's three kinds of requests, in their order."""

    def __init__(self, asked: Asked, settings: Settings, device: torch.device) -> None:
        super().__init__()
        if not isinstance(asked.model, GPT):
            raise DataError("--harness needs a language model, not a classifier", "see: gptctl eval MODEL DATA")
        self.model = asked.model
        self.coder = asked.coder
        self.settings = settings
        self.max_length = asked.context(settings)
        self.where = device

    @property
    def eot_token_id(self) -> int:
        """Return end-of-text, which stands before every document."""
        return int(self.coder.end_of_text_id)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **more: Any) -> list[int]:
        """Tokenize without adding any token."""
        return self.coder.encode(string)

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[tuple[str, str], list[int], list[int]]], **more: Any
    ) -> list[tuple[float, bool]]:
        """Return the log-likelihood of each continuation, and whether each of its tokens was the likeliest."""
        begin = self.eot_token_id
        pieces = [
            fit(begin, context[1:] if context[:1] == [begin] else context, target, self.max_length, words[0][:40])
            for words, context, target in requests
        ]
        found = score_requests(self.model, pieces, self.settings.batch_size, self.where)
        answers = [(-nats, greedy) for nats, greedy in zip(found.nll.tolist(), found.is_greedy.tolist(), strict=True)]
        for (words, _, _), answer in zip(requests, answers, strict=True):
            self.cache_hook.add_partial("loglikelihood", words, answer)
        return answers

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Return the log-likelihood of each whole text."""
        texts = [request.args[0] for request in requests]
        stride = self.settings.stride or self.max_length
        windows = [
            scoring_windows.cut(np.array(self.coder.encode(text), np.int64), self.eot_token_id, self.max_length, stride)
            for text in texts
        ]
        pieces = [Request(*window) for document in windows for window in document]
        nats = score_requests(self.model, pieces, self.settings.batch_size, self.where).nll
        owner = np.repeat(np.arange(len(texts)), [len(document) for document in windows])
        sums: list[float] = (-np.bincount(owner, nats, len(texts))).tolist()
        for text, nat in zip(texts, sums, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), nat)
        return sums

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Continue each prompt up to the first of its stop texts; greedy, unless a task asks for a temperature."""
        found: list[str] = []
        engine = Engine(self.model.to(self.where))
        for number, request in enumerate(requests):
            prompt, wanted = request.args
            stops = wanted.get("until") or []
            most = min(int(wanted.get("max_gen_toks", self.settings.max_tokens)), self.max_length - 1)
            sampling = SamplingParams(
                max_tokens=most,
                temperature=float(wanted.get("temperature", 0.0)) if wanted.get("do_sample") else 0.0,
                top_p=float(wanted.get("top_p", 1.0)),
            )
            tokens = [self.eot_token_id, *self.coder.encode(prompt)][-(self.max_length - most) :]
            made = engine.generate([tokens], sampling, (self.eot_token_id,), number)[0]
            text = before_stop(self.coder.decode(made.tokens), [stops] if isinstance(stops, str) else stops)
            self.cache_hook.add_partial("generate_until", (prompt, wanted), text)
            found.append(text)
        return found
