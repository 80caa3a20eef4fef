"""Decoding of tokens to text as they arrive: whole characters only, and nothing that may begin a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from gptctl.text.tokenizer import Tokenizer

__all__ = ["TextStream"]

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
CONTEXT_TOKENS = 4  # of a prompt, which are decoded before the first new token


class TextStream:
    """The text of one sample, token by token.

    The pieces that it returns are, joined, the text of all tokens up to the stop string that is complete first.

    A character may take several tokens, and the text of a token may depend on the one before it (a space at the
    beginning). So the stream decodes together the tokens since the last but one that ended a whole character, however
    long the sample is.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = (), prompt: Sequence[int] | None = None) -> None:
        """Begin the text after a prompt, whose last tokens decide whether the first one begins with a space.

        Without a prompt, some text comes before. With one that has no text, the stream is the beginning of a document.
        """
        self.tokenizer = tokenizer
        self.stops = [stop for stop in stops if stop]
        before = any_token(tokenizer) if prompt is None else last_tokens(prompt, tokenizer)
        self.tokens: list[int] = list(before)
        self.text = ""  # of all tokens but those at the end whose character is not whole yet
        self.stopped = False
        self._returned = 0  # characters of text that were returned
        self._begin = 0
        self._whole = len(self.tokens)  # tokens[_begin:_whole] are known, and what follows is decoded after them
        self._before = tokenizer.decode(self.tokens) if self.tokens else ""  # their text

    def add(self, token: int) -> str:
        """Take the next token; return the text that is certain now."""
        self.tokens.append(token)
        found = self.tokenizer.decode(self.tokens[self._begin :])
        if not found.endswith(REPLACEMENT):
            self._append(found)
            self._begin, self._whole = self._whole, len(self.tokens)
            self._before = self.tokenizer.decode(self.tokens[self._begin :])
        return self._take(self.held())

    def finish(self) -> str:
        """Return the rest of the text: no more tokens will come."""
        if self._whole < len(self.tokens) and not self.stopped:
            self._append(self.tokenizer.decode(self.tokens[self._begin :]))
            self._begin = self._whole = len(self.tokens)
            self._before = ""
        return self._take(0)

    def held(self) -> int:
        """Count the characters at the end of the text that may begin a stop string."""
        if self.stopped:
            return 0
        longest = max(map(len, self.stops), default=1) - 1
        for size in range(min(longest, len(self.text)), 0, -1):
            if any(stop.startswith(self.text[-size:]) for stop in self.stops):
                return size
        return 0

    def _append(self, found: str) -> None:
        searched = max(0, len(self.text) - max(map(len, self.stops), default=0) + 1)
        self.text += found[len(self._before) :]
        places = [(self.text.find(stop, searched), len(stop)) for stop in self.stops]
        ends = [(place + size, place) for place, size in places if place >= 0]
        if ends:
            self.text, self.stopped = self.text[: min(ends)[1]], True

    def _take(self, held: int) -> str:
        certain = max(self._returned, len(self.text) - held)
        piece, self._returned = self.text[self._returned : certain], certain
        return piece


def last_tokens(prompt: Sequence[int], tokenizer: Tokenizer) -> Sequence[int]:
    """Return the last tokens of a prompt after its last special token, or none if they end within a character."""
    start = len(prompt)
    while start > max(0, len(prompt) - CONTEXT_TOKENS) and prompt[start - 1] not in tokenizer.special_ids:
        start -= 1
    last = prompt[start:]
    return last if last and not tokenizer.decode(last).endswith(REPLACEMENT) else ()


def any_token(tokenizer: Tokenizer) -> Sequence[int]:
    """Return an ordinary token that has text, or none if there is no such token."""
    ordinary = (number for number in range(tokenizer.vocab_size) if number not in tokenizer.special_ids)
    for number in ordinary:
        text = tokenizer.decode([number])
        if text.strip() and REPLACEMENT not in text:
            return [number]
    return ()
