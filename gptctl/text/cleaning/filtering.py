"""Documents through a chain of filters: the first that objects names the reason, some rewrite text on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gptctl.core import plugins
from gptctl.core.config import Settings
from gptctl.text.cleaning.batch import Batch, Rule, decide

FILTERS = "gptctl.text.filters"


@dataclass(frozen=True)
class Step:
    """One filter of a chain with its settings."""

    name: str
    config: Settings

    @property
    def module(self) -> ModuleType:
        """The filter's file."""
        return plugins.load(FILTERS, self.name)


@dataclass
class Filtered:
    """What a chain made of a batch: texts, reasons to go (null: stays), new columns, sums to report."""

    text: pa.LargeStringArray
    reasons: pa.StringArray
    columns: dict[str, pa.Array] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)


def apply(batch: Batch, steps: Sequence[Step]) -> Filtered:
    """Run a chain. Each filter sees only what the ones before it kept, as they left it."""
    found = Filtered(batch.text, pa.nulls(len(batch), pa.string()))
    alive = np.arange(len(batch))
    for step in steps:
        if not len(alive):
            break
        measured = step.module.measure(batch, step.config)
        found.notes.update(measured.notes)
        for name, values in measured.columns.items():
            before = found.columns.get(name, pa.nulls(len(found.text), values.type))
            found.columns[name] = scatter(before, alive, values)
        reasons = decide(step.module.rules(step.config), measured.figures)
        kept = pc.is_null(reasons)
        if measured.text is not None:
            found.text = scatter(found.text, alive, measured.text)
        if reasons.null_count < len(reasons):
            found.reasons = scatter(found.reasons, alive, reasons)
            alive = alive[kept.to_numpy(zero_copy_only=False)]
            batch = batch.only(kept)
        if measured.text is not None:
            text = measured.text if reasons.null_count == len(reasons) else measured.text.filter(kept)
            batch = replace(batch, text=text)
    return found


def scatter(column: pa.Array, rows: Any, values: pa.Array) -> pa.Array:
    """Put values in the rows of a column."""
    if len(rows) == len(column):
        return values
    mask = np.zeros(len(column), bool)
    mask[rows] = True
    return pc.replace_with_mask(column, pa.array(mask), values)


@dataclass(frozen=True)
class Explained:
    """One rule's figure for one document."""

    step: str
    rule: Rule
    figure: float

    @property
    def fails(self) -> bool:
        """Whether this rule drops the document."""
        return bool(self.rule.fails(np.array([self.figure]))[0])

    def row(self) -> tuple[str, str, str, str, str]:
        """Return a line of the table for people."""
        bound = f"{'above' if self.rule.above else 'below'} {self.rule.threshold:g}"
        return self.step, self.rule.reason, f"{self.figure:.6g}", bound, "drops" if self.fails else ""

    def to_json(self) -> dict[str, Any]:
        """Return the form in `--json`."""
        return {
            "filter": self.step,
            "reason": self.rule.reason,
            "what": self.rule.figure,
            "figure": None if np.isnan(self.figure) else self.figure,
            "threshold": self.rule.threshold,
            "dropped_if": "above" if self.rule.above else "below",
            "fails": self.fails,
        }


def explain(batch: Batch, steps: Sequence[Step], document: int) -> Iterator[Explained]:
    """Give every rule's figure for one document of a batch, also behind a rule that drops it."""
    batch = replace(batch, complete=True)
    for step in steps:
        measured = step.module.measure(batch, step.config)
        rules = step.module.rules(step.config)
        for rule, figure in zip(rules, measured.figures[document], strict=True):
            yield Explained(step.name, rule, float(figure))
        if measured.text is not None:
            batch = replace(batch, text=measured.text)
