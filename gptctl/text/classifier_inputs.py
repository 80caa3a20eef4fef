"""How a text, or a pair of texts, becomes the sequences of tokens that a classifier reads.

[start] text [classify], and [start] first [delimiter] second [classify] for a pair (Radford et al. 2018, GPT-1, 3.3 and
figure 1). What is longer than the context is cut by a stated policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.pipeline.labelled_data import strings_of
from gptctl.text.tokenizer import Tokenizer

START, DELIMITER, CLASSIFY = "<|start|>", "<|delimiter|>", "<|classify|>"
MARKERS = (START, DELIMITER, CLASSIFY)
LongDocuments = Literal["head", "tail", "ends", "windows"]
Tokens = NDArray[np.integer[Any]]
Sequences = list[NDArray[np.int64]]


@dataclass(frozen=True)
class Framing:
    """The ids of the three markers, tokens per sequence, and what becomes of a longer text.

    head and tail keep one end of it, ends half of each (Sun et al. 2019, "How to Fine-Tune BERT", 5.3.1), windows all
    of it, as up to `max_windows` sequences side by side, spread evenly where it has more. Of a pair, each text gets
    half of the room, or what the other leaves; windows cut as head does. A symmetric pair is read in both orders.
    """

    start: int
    delimiter: int
    classify: int
    context: int
    long_documents: LongDocuments = "head"
    max_windows: int = 16
    symmetric: bool = False

    def frame(self, first: Tokens, second: Tokens | None = None) -> Sequences:
        """Return the sequences, each (T,) int64 with T <= context; a classifier takes the mean over them."""
        if second is None:
            return [self.join(piece) for piece in self.pieces(first, self.context - 2)]
        room = self.context - 3
        least = room // 2
        first_room = max(room - least, room - len(second))
        second_room = max(least, room - len(first))
        first, second = self.cut(first, first_room), self.cut(second, second_room)
        orders = [(first, second), (second, first)] if self.symmetric else [(first, second)]
        return [self.join(a, [self.delimiter], b) for a, b in orders]

    def join(self, *parts: Sequence[int] | Tokens) -> NDArray[np.int64]:
        """Put the markers around parts."""
        return np.concatenate([np.asarray(part, np.int64) for part in ([self.start], *parts, [self.classify])])

    def pieces(self, tokens: Tokens, room: int) -> list[Tokens]:
        """Cut one text."""
        if self.long_documents != "windows" or len(tokens) <= room:
            return [self.cut(tokens, room)]
        count = min(-(-len(tokens) // room), self.max_windows)
        starts = np.linspace(0, len(tokens) - room, count).round().astype(int) if count > 1 else [0]
        return [tokens[start : start + room] for start in starts]

    def cut(self, tokens: Tokens, room: int) -> Tokens:
        """Return what is read of a text in one piece."""
        if len(tokens) <= room:
            return tokens
        if self.long_documents == "tail":
            return tokens[len(tokens) - room :]
        if self.long_documents == "ends":
            head = room - room // 2
            return np.concatenate([tokens[:head], tokens[len(tokens) - room // 2 :]])
        return tokens[:room]

    def truncates(self, first: Tokens, second: Tokens | None = None) -> bool:
        """Return whether some tokens are not read."""
        if second is not None:
            return len(first) + len(second) > self.context - 3
        windows = self.max_windows if self.long_documents == "windows" else 1
        return len(first) > windows * (self.context - 2)

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Framing:
        """Read it from a model's config.json."""
        return cls(**values)


def pairs_of(
    table: pa.Table, coder: Tokenizer, pair_column: str | None, where: str, hint: str = "name it with --pair-column"
) -> list[tuple[Tokens] | tuple[Tokens, Tokens]]:
    """Give each row's tokens: those of its text, and those of a second column if there is one.

    Raises DataError (3) for a missing column or second text, naming the row.
    """
    first = coder.encode_to_arrays(table["text"].to_pylist())
    if pair_column is None:
        return [(tokens,) for tokens in first]
    second = coder.encode_to_arrays(strings_of(table, pair_column, where, "second text", hint))
    return list(zip(first, second, strict=True))
