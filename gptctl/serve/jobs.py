"""From a request to prompts in tokens and settings of sampling."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from gptctl.core.errors import DataError, GptctlError, UsageError
from gptctl.infer.generator import TextGenerator
from gptctl.infer.row_sampling import RowParams
from gptctl.infer.sampling import SamplingParams
from gptctl.serve.requests import ChatMessage, ChatRequest, CompletionRequest, Generation, RequestError

T = TypeVar("T")
DEFAULT_MAX_TOKENS = 16  # of /v1/completions, as in OpenAI's interface


class Prompt(NamedTuple):
    """A prompt in tokens and as text. The first `prefix` tokens, such as BOS, were not written by the client."""

    tokens: list[int]
    text: str
    prefix: int


class ServedModel:
    """A model under a name, with the sampling settings that requests do not give."""

    def __init__(self, generator: TextGenerator, name: str, defaults: SamplingParams) -> None:
        self.tokenizer, self.stop_ids = generator.tokenizer, generator.stop_ids
        self.chat_template = generator.chat_template
        self.name, self.defaults = name, defaults
        # Beyond its original context LongRoPE has other keys, which rows of one batch could not share.
        self.context = generator.engine.original_context or generator.engine.max_seq_len
        self.vocab_size = min(generator.engine.model.config.vocab_size, self.tokenizer.vocab_size)

    def card(self) -> dict[str, Any]:
        """Return what the list of models says of this one, beside its name."""
        names = "temperature", "top_p", "top_k", "min_p", "repetition_penalty"
        return {
            "max_model_len": self.context,
            "chat": self.chat_template is not None,
            "sampling": {name: getattr(self.defaults, name) for name in names},
        }

    def check_name(self, name: str | None) -> None:
        """Raise RequestError (404) for the name of another model."""
        if name not in (None, self.name):
            raise RequestError(
                f"the model {name!r} does not exist; this server has {self.name!r}", "model", 404, "model_not_found"
            )

    def text_prompt(self, text: str, param: str = "prompt") -> Prompt:
        """Tokenize a text as in training: after end-of-text, BOS or nothing. Special tokens in it are text."""
        ids = self.encode(text, param)
        tokens = self.tokenizer.with_prefix(ids)
        return Prompt(tokens, text, len(tokens) - len(ids))

    def encode(self, text: str, param: str) -> list[int]:
        """Tokenize a text. Raises RequestError for symbols that the vocabulary lacks."""
        try:
            return self.tokenizer.encode(text)
        except DataError as error:
            raise refused(error, param) from error

    def prompts(self, request: CompletionRequest) -> list[Prompt]:
        """Return the prompts of a request."""
        return [
            self.text_prompt(one) if isinstance(one, str) else Prompt(one, self.decode(one, "prompt"), 0)
            for one in request.prompts()
        ]

    def decode(self, tokens: list[int], param: str) -> str:
        """Return the text of tokens. Raises RequestError for ids that the model does not have."""
        self.check_ids(tokens, param)
        return self.tokenizer.decode(tokens)

    def check_ids(self, tokens: list[int], param: str) -> None:
        """Raise RequestError for ids that the model does not have."""
        if tokens and max(tokens) >= self.vocab_size:
            raise RequestError(
                f"{param}: the token id {max(tokens)} is not below {self.vocab_size}, the vocabulary size", param
            )

    def conversation(self, messages: list[ChatMessage]) -> Prompt:
        """Return the prompt after which the assistant answers."""
        if self.chat_template is None:
            raise RequestError(f"the model {self.name!r} has no chat template; use /v1/completions", "messages")
        try:
            tokens = self.chat_template.prompt([message.plain() for message in messages])
        except (DataError, UsageError) as error:
            raise refused(error, "messages") from error
        return Prompt(tokens, "", 0)

    def row_params(self, request: Generation, prompts: list[Prompt]) -> list[RowParams]:
        """Return the settings of each prompt. A seed is drawn if the request has none."""
        defaults = self.defaults
        sampling = replace(
            defaults,
            temperature=first(request.temperature, defaults.temperature),
            top_k=first(request.top_k, defaults.top_k),
            top_p=first(request.top_p, defaults.top_p),
            min_p=first(request.min_p, defaults.min_p),
            repetition_penalty=first(request.repetition_penalty, defaults.repetition_penalty),
            seed=first(request.seed, secrets.randbits(62)),
            stop=request.stops(),
        )
        common = RowParams(
            sampling,
            presence_penalty=request.presence_penalty or 0.0,
            frequency_penalty=request.frequency_penalty or 0.0,
            logit_bias=self.biases(request.logit_bias or {}),
            top_logprobs=top_logprobs(request),
        )
        counts = [self.max_tokens(request, prompt) for prompt in prompts]
        return [replace(common, sampling=replace(sampling, max_tokens=count)) for count in counts]

    def max_tokens(self, request: Generation, prompt: Prompt) -> int:
        """Return how many tokens may follow a prompt. Raises RequestError if they do not fit behind it."""
        wanted, room = request.max_tokens, self.context - len(prompt.tokens)
        if isinstance(request, ChatRequest):
            wanted = first(wanted, request.max_completion_tokens)
        if wanted is None:
            least = 1
            found = room if isinstance(request, ChatRequest) else min(DEFAULT_MAX_TOKENS, room)
        else:
            least = found = wanted
        if least > room:
            raise RequestError(
                f"the model's context is {self.context} tokens; the prompt has {len(prompt.tokens)}, "
                f"and {least} are to follow",
                "messages" if isinstance(request, ChatRequest) else "prompt",
                code="context_length_exceeded",
            )
        return found

    def biases(self, given: dict[str, float]) -> dict[int, float]:
        """Return logit_bias by token id."""
        if not all(name.isascii() and name.isdigit() for name in given):
            raise RequestError("logit_bias: keys are token ids", "logit_bias")
        found = {int(name): bias for name, bias in given.items()}
        self.check_ids(list(found), "logit_bias")
        return found


def top_logprobs(request: Generation) -> int | None:
    """Return how many of the most likely tokens a request asks for, or None if it asks for no log-probabilities."""
    if isinstance(request, ChatRequest):
        return (request.top_logprobs or 0) if request.logprobs else None
    return request.logprobs if isinstance(request, CompletionRequest) else None


def refused(error: GptctlError, param: str) -> RequestError:
    """Return an error of gptctl as that of a request."""
    return RequestError(f"{param}: {error.message}", param)


def first(given: T | None, default: T) -> T:
    """Return a value if it is given, or else the default."""
    return default if given is None else given
