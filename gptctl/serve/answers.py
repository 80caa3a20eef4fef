"""Answers as OpenAI's interface has them: completions and chat completions, whole and in chunks."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any, Protocol

from gptctl.infer.row_sampling import Scored
from gptctl.infer.text_stream import REPLACEMENT
from gptctl.serve.jobs import Prompt
from gptctl.text.tokenizer import Tokenizer

Json = dict[str, Any]


class Answer(Protocol):
    """Writes the answer to one request."""

    def begin(self, choice: int) -> list[Json]:
        """Return the chunks that a choice begins with."""

    def chunk(self, choice: int, text: str, tokens: Sequence[Scored], finish_reason: str | None) -> Json:
        """Return a chunk with a part of a choice."""

    def whole(self, choice: int, text: str, tokens: Sequence[Scored], finish_reason: str | None) -> Json:
        """Return a whole choice."""

    def envelope(self, choices: Sequence[Json], is_chunk: bool) -> Json:
        """Return the object around choices."""


class Envelope:
    """What answers of one request have in common."""

    def __init__(self, prefix: str, kind: str, chunk_kind: str, model: str) -> None:
        self.common = {"id": f"{prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self.kind, self.chunk_kind = kind, chunk_kind

    def envelope(self, choices: Sequence[Json], is_chunk: bool) -> Json:
        """Return the object around choices."""
        return {**self.common, "object": self.chunk_kind if is_chunk else self.kind, "choices": list(choices)}


class CompletionAnswer(Envelope):
    """The answer to a request to /v1/completions."""

    def __init__(self, model: str, tokenizer: Tokenizer, logprobs: bool) -> None:
        super().__init__("cmpl", "text_completion", "text_completion", model)
        self.tokenizer, self.logprobs = tokenizer, logprobs
        self.offsets: dict[int, int] = {}  # of the next token of each choice, in characters

    def begin(self, choice: int) -> list[Json]:
        """Return nothing."""
        return []

    def chunk(self, choice: int, text: str, tokens: Sequence[Scored], finish_reason: str | None) -> Json:
        """Return a part of a choice, which looks like a whole one."""
        found: Json = {"index": choice, "text": text, "logprobs": None, "finish_reason": finish_reason}
        if self.logprobs:
            found["logprobs"] = self.token_lists(choice, tokens)
        return found

    whole = chunk

    def token_lists(self, choice: int, tokens: Sequence[Scored]) -> Json:
        """Return tokens, log-probabilities and places as lists. A token whose logprob is NaN has none."""
        texts = [self.tokenizer.decode([scored.token]) for scored in tokens]
        offsets = []
        for text in texts:
            offsets.append(self.offsets.setdefault(choice, 0))
            self.offsets[choice] += len(text)
        has_score = [scored.logprob == scored.logprob for scored in tokens]
        return {
            "tokens": texts,
            "token_logprobs": [one.logprob if has else None for one, has in zip(tokens, has_score, strict=True)],
            "top_logprobs": [self.top(one) if has else None for one, has in zip(tokens, has_score, strict=True)],
            "text_offset": offsets,
        }

    def top(self, scored: Scored) -> dict[str, float]:
        """Return the most likely tokens by their text. Of tokens with the same text, the most likely one counts."""
        found: dict[str, float] = {}
        for token, logprob in scored.top:
            found.setdefault(self.tokenizer.decode([token]), logprob)
        return found


class ChatAnswer(Envelope):
    """The answer to a request to /v1/chat/completions."""

    def __init__(self, model: str, tokenizer: Tokenizer, logprobs: bool) -> None:
        super().__init__("chatcmpl", "chat.completion", "chat.completion.chunk", model)
        self.tokenizer, self.logprobs = tokenizer, logprobs

    def begin(self, choice: int) -> list[Json]:
        """Return a chunk with the role."""
        delta = {"role": "assistant", "content": ""}
        return [{"index": choice, "delta": delta, "logprobs": None, "finish_reason": None}]

    def chunk(self, choice: int, text: str, tokens: Sequence[Scored], finish_reason: str | None) -> Json:
        """Return a part of a message."""
        return self.choice(choice, tokens, finish_reason) | {"delta": {"content": text} if text else {}}

    def whole(self, choice: int, text: str, tokens: Sequence[Scored], finish_reason: str | None) -> Json:
        """Return a message."""
        message = {"role": "assistant", "content": text, "refusal": None}
        return self.choice(choice, tokens, finish_reason) | {"message": message}

    def choice(self, choice: int, tokens: Sequence[Scored], finish_reason: str | None) -> Json:
        """Return what whole choices and their parts have in common."""
        logprobs = {"content": [self.scored(one) for one in tokens], "refusal": None} if self.logprobs else None
        return {"index": choice, "logprobs": logprobs, "finish_reason": finish_reason}

    def scored(self, scored: Scored) -> Json:
        """Return a token with the most likely ones in its place."""
        return self.token(scored) | {"top_logprobs": [self.token(Scored(*pair)) for pair in scored.top]}

    def token(self, scored: Scored) -> Json:
        """Return a token with its log-probability. Bytes are null where a token is no whole character."""
        text = self.tokenizer.decode([scored.token])
        return {
            "token": text,
            "logprob": scored.logprob,
            "bytes": None if REPLACEMENT in text else list(text.encode()),
        }


def echoed(prompt: Prompt, scores: Sequence[Scored]) -> list[Scored]:
    """Return the tokens of a prompt that the client wrote. The first one has NaN for ln p, also after BOS."""
    written = prompt.tokens[prompt.prefix :]
    return [Scored(written[0], float("nan")), *scores[prompt.prefix :]] if written else []


def usage(prompts: Sequence[Prompt], generated: int) -> dict[str, int]:
    """Return the numbers of tokens of a request. A prompt counts once, whatever n is."""
    read = sum(len(prompt.tokens) for prompt in prompts)
    return {"prompt_tokens": read, "completion_tokens": generated, "total_tokens": read + generated}
