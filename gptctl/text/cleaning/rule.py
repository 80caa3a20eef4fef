"""The rules of a filter: each compares one figure of a document with the threshold that a config key sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True)
class Rule:
    """One reason to drop a document: its figure is above (or below) a threshold.

    `key` is the filter's config key that sets the threshold or turns the rule on; together with the filter's name it
    is the reason that users see: `gopher_quality.min_words`. `description` says in words what the figure is.
    `datatrove` is datatrove's name for the same reason, or "" if it has none.
    """

    key: str
    description: str
    threshold: float
    drop_if: Literal["above", "below"] = "above"
    datatrove: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError for a comparison that does not exist."""
        if self.drop_if not in ("above", "below"):
            raise ValueError(f"drop_if is 'above' or 'below', not {self.drop_if!r}")

    def drops(self, figures: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which documents the rule drops. A figure that is NaN was not measured and drops none."""
        return np.asarray(figures > self.threshold if self.drop_if == "above" else figures < self.threshold)


@dataclass(frozen=True)
class FilterResult:
    """What a filter measured in a batch of documents, and what it changed.

    `figures` (documents, rules) has one number for each of the filter's rules. `text` has the rewritten texts if the
    filter rewrites any. `columns` are added to the table. `stats` are counts that are summed up over the whole run and
    shown in its summary. `found` counts what the filter looks for, by name; a sum of 0 is shown too.
    """

    figures: NDArray[np.float64]
    text: pa.LargeStringArray | None = None
    columns: dict[str, pa.Array] = field(default_factory=dict)
    stats: dict[str, int] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)


def drop_reasons(filter_name: str, rules: Sequence[Rule], figures: NDArray[np.float64]) -> pa.StringArray:
    """Return for each document the reason to drop it, or null if it is kept.

    The first rule that drops a document is its reason, written as `filter.key`.
    """
    if not rules:
        return pa.nulls(len(figures), pa.string())
    dropped = np.stack([rule.drops(figures[:, number]) for number, rule in enumerate(rules)], axis=1)
    first = np.where(dropped.any(axis=1), dropped.argmax(axis=1), len(rules)).astype(np.int32)
    reasons: list[Any] = [*(f"{filter_name}.{rule.key}" for rule in rules), None]
    return pa.array(reasons, pa.string()).take(pa.array(first))
