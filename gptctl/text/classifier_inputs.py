"""Turn a text, or a pair of texts, into the token sequences that a classifier reads.

They are [start] text [classify], or [start] first [delimiter] second [classify] for a pair (Radford et al. 2018, GPT-1,
3.3 and figure 1). A longer text is truncated by a policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.pipeline.data_splits import strings_of
from gptctl.text.tokenizer import Tokenizer

START, DELIMITER, CLASSIFY = "<|start|>", "<|delimiter|>", "<|classify|>"
MARKERS = (START, DELIMITER, CLASSIFY)
LongDocuments = Literal["head", "tail", "ends", "windows"]
Tokens = NDArray[np.integer[Any]]
Sequences = list[NDArray[np.int64]]


@dataclass(frozen=True)
class ClassifierInputs:
    """How texts become sequences: the ids of the three markers, the longest sequence, and the policy for longer texts.

    "head" and "tail" keep the beginning or the end, "ends" half of each (Sun et al. 2019, "How to Fine-Tune BERT",
    5.3.1). "windows" keeps all of the text as up to `max_windows` sequences, which are evenly spaced if the text is
    even longer. Each text of a pair gets half of the room, or what the other text leaves; here "windows" is the same as
    "head". A symmetric pair is read in both orders.
    """

    start: int
    delimiter: int
    classify: int
    max_seq_len: int
    long_documents: LongDocuments = "head"
    max_windows: int = 16
    symmetric: bool = False

    def sequences(self, first: Tokens, second: Tokens | None = None) -> Sequences:
        """Return the sequences, each (T,) int64 with T <= max_seq_len. A classifier averages over them."""
        if second is None:
            return [self._add_markers(piece) for piece in self._windows(first, self.max_seq_len - 2)]
        room = self.max_seq_len - 3
        least = room // 2
        first_room = max(room - least, room - len(second))
        second_room = max(least, room - len(first))
        first, second = self._truncate(first, first_room), self._truncate(second, second_room)
        orders = [(first, second), (second, first)] if self.symmetric else [(first, second)]
        return [self._add_markers(a, [self.delimiter], b) for a, b in orders]

    def _add_markers(self, *parts: Sequence[int] | Tokens) -> NDArray[np.int64]:
        """Join token sequences between the start and classify markers."""
        return np.concatenate([np.asarray(part, np.int64) for part in ([self.start], *parts, [self.classify])])

    def _windows(self, tokens: Tokens, room: int) -> list[Tokens]:
        """Return the parts of a single text that are read."""
        if self.long_documents != "windows" or len(tokens) <= room:
            return [self._truncate(tokens, room)]
        count = min(-(-len(tokens) // room), self.max_windows)
        starts = np.linspace(0, len(tokens) - room, count).round().astype(int) if count > 1 else [0]
        return [tokens[start : start + room] for start in starts]

    def _truncate(self, tokens: Tokens, room: int) -> Tokens:
        """Truncate a text to `room` tokens by the policy."""
        if len(tokens) <= room:
            return tokens
        if self.long_documents == "tail":
            return tokens[len(tokens) - room :]
        if self.long_documents == "ends":
            head = room - room // 2
            return np.concatenate([tokens[:head], tokens[len(tokens) - room // 2 :]])
        return tokens[:room]

    def truncates(self, first: Tokens, second: Tokens | None = None) -> bool:
        """Return whether some tokens are left out."""
        if second is not None:
            return len(first) + len(second) > self.max_seq_len - 3
        windows = self.max_windows if self.long_documents == "windows" else 1
        return len(first) > windows * (self.max_seq_len - 2)

    def to_json(self) -> dict[str, Any]:
        """Return the fields, as stored in a model's config.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ClassifierInputs:
        """Read the fields from a model's config.json."""
        return cls(**values)


def encode_pairs(
    table: pa.Table, tokenizer: Tokenizer, pair_column: str | None, where: str, hint: str = "name it with --pair-column"
) -> list[tuple[Tokens] | tuple[Tokens, Tokens]]:
    """Return the tokens of each row: of its text, and of the second text if there is a pair column.

    Raises DataError (3) for a missing column or second text, and names the row.
    """
    first = tokenizer.encode_to_arrays(table["text"].to_pylist())
    if pair_column is None:
        return [(tokens,) for tokens in first]
    second = tokenizer.encode_to_arrays(strings_of(table, pair_column, where, "second text", hint))
    return list(zip(first, second, strict=True))
