"""A confusion matrix as the page and the pictures show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gptctl.core.visible import visible

EMPTY = "(empty)"
INVALID = "none of them"


@dataclass(frozen=True)
class Matrix:
    """Counts by true class (rows) and predicted class (columns).

    The last column counts predictions that are none of the classes, if there are any.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    @classmethod
    def from_report(cls, confusion: Mapping[str, Any]) -> Matrix:
        """Return the matrix of an evaluation's "confusion": labels, matrix, and invalid predictions by class."""
        labels = tuple(visible(str(label)) if str(label).strip() else EMPTY for label in confusion["labels"])
        invalid = confusion["invalid"] if any(confusion["invalid"]) else None
        counts = tuple((*row, *([invalid[place]] if invalid else ())) for place, row in enumerate(confusion["matrix"]))
        return cls(labels, (*labels, INVALID) if invalid else labels, counts)

    @property
    def shares(self) -> list[list[float]]:
        """Return each count as a share of its row, from 0 to 1."""
        return [[count / (sum(row) or 1) for count in row] for row in self.counts]

    @property
    def totals(self) -> list[int]:
        """Return the number of texts of each true class."""
        return [sum(row) for row in self.counts]

    def largest_confusions(self, limit: int) -> list[tuple[str, str, int, float]]:
        """Return the most frequent errors: true class, predicted class, count, and its share of the true class."""
        shares = self.shares
        found = [
            (self.rows[row], self.columns[column], count, shares[row][column])
            for row, cells in enumerate(self.counts)
            for column, count in enumerate(cells)
            if count and row != column
        ]
        return sorted(found, key=lambda one: -one[2])[:limit]

    def describe(self) -> str:
        """Return what the matrix says in words: the texts, how many are right, and the most frequent errors."""
        right = sum(self.counts[place][place] for place in range(len(self.rows)))
        errors = "; ".join(
            f"{count:,} {true} predicted as {other}" for true, other, count, _ in self.largest_confusions(5)
        )
        return f"{right:,} of {sum(self.totals):,} right" + (f"; {errors}" if errors else "")
