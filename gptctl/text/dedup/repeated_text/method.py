"""The methods that remove repeated text: lines, paragraphs, or substrings of many words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.text.dedup.repeated_text import lines, substrings

Name = Literal["lines", "paragraphs", "substring"]


@dataclass(frozen=True)
class Method:
    """A method with its settings, and the same functions for each method.

    `min_chars` is the shortest line or paragraph that is compared, `min_words` the length of a repeated passage. With
    `fold`, lines and paragraphs are compared without case, and all numbers are equal.
    """

    name: Name
    min_chars: int
    min_words: int
    fold: bool

    @property
    def unit(self) -> lines.Unit:
        """Return the unit of the methods lines and paragraphs."""
        return "line" if self.name == "lines" else "paragraph"

    def keys(self, text: pa.LargeStringArray) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Return the keys of a column's units, and their positions in the column."""
        if self.name == "substring":
            return substrings.keys(text, self.min_words)
        return lines.keys(text, self.unit, self.min_chars, self.fold)

    def remove(self, text: pa.LargeStringArray, positions: NDArray[np.int64]) -> tuple[pa.LargeStringArray, int, int]:
        """Return the column without the units at some positions, how many were removed, and how many bytes shorter."""
        if self.name == "substring":
            return substrings.remove(text, self.min_words, positions)
        return lines.remove(text, self.unit, self.min_chars, positions)

    def texts_at(self, text: pa.LargeStringArray, positions: NDArray[np.int64]) -> list[str]:
        """Return the units at some positions."""
        if self.name == "substring":
            return substrings.texts_at(text, self.min_words, positions)
        return lines.texts_at(text, self.unit, self.min_chars, positions)
