"""Tokens to text as they come: whole characters only, and nothing that may turn out to begin a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from gptctl.text.tokenizer import Tokenizer

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class TextStream:
    """The text of one sample under way. What it gives piece by piece is, joined, the text of all tokens, cut before the
    stop string that is complete first.

    A character may take several tokens, and a token's text may depend on the one before it (a space at the beginning):
    so the tokens since the last character but one that was whole are decoded together, however long the sample.
    """

    def __init__(self, coder: Tokenizer, stops: Sequence[str] = ()) -> None:
        self.coder = coder
        self.stops = [stop for stop in stops if stop]
        self.tokens: list[int] = []
        self.text = ""  # of all tokens but those whose last character is not whole
        self.stopped = False
        self._shown = 0  # characters of text that were given
        self._begin = self._whole = 0  # tokens[_begin:_whole] are in text, and what follows is decoded after them
        self._before = ""  # their text

    def add(self, token: int) -> str:
        """Take the next token; give the text that is now sure."""
        self.tokens.append(token)
        found = self.coder.decode(self.tokens[self._begin :])
        if not found.endswith(REPLACEMENT):
            self._append(found)
            self._begin, self._whole = self._whole, len(self.tokens)
            self._before = self.coder.decode(self.tokens[self._begin :])
        return self._give(self.held())

    def finish(self) -> str:
        """Return the rest of the text: nothing more will come."""
        if self._whole < len(self.tokens) and not self.stopped:
            self._append(self.coder.decode(self.tokens[self._begin :]))
            self._begin = self._whole = len(self.tokens)
            self._before = ""
        return self._give(0)

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

    def _give(self, held: int) -> str:
        sure = max(self._shown, len(self.text) - held)
        piece, self._shown = self.text[self._shown : sure], sure
        return piece
