"""Explain the decision on one document: the figure of every rule and its threshold, for `gptctl clean --explain`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from gptctl.text.cleaning.document_batch import DocumentBatch
from gptctl.text.cleaning.filter_chain import ConfiguredFilter
from gptctl.text.cleaning.rule import Rule


@dataclass(frozen=True)
class ExplainedRule:
    """The figure of one rule for one document."""

    COLUMNS: ClassVar = ("filter", "key", "datatrove's name", "figure", "dropped if", "")

    filter_name: str
    rule: Rule
    figure: float

    @property
    def drops(self) -> bool:
        """Whether this rule drops the document."""
        return bool(self.rule.drops(np.array([self.figure]))[0])

    def row(self) -> tuple[str, ...]:
        """Return a row of the table that people read; its columns are `COLUMNS`."""
        condition = f"{self.rule.drop_if} {self.rule.threshold:g}"
        verdict = "drops" if self.drops else ""
        return self.filter_name, self.rule.key, self.rule.datatrove, f"{self.figure:.6g}", condition, verdict

    def to_json(self) -> dict[str, Any]:
        """Return the form that `--json` prints."""
        return {
            "filter": self.filter_name,
            "key": self.rule.key,
            "reason": f"{self.filter_name}.{self.rule.key}",
            "datatrove": self.rule.datatrove or None,
            "what": self.rule.description,
            "figure": None if np.isnan(self.figure) else self.figure,
            "threshold": self.rule.threshold,
            "dropped_if": self.rule.drop_if,
            "fails": self.drops,
        }


def explain(batch: DocumentBatch, filters: Sequence[ConfiguredFilter], row: int) -> Iterator[ExplainedRule]:
    """Yield every rule with its figure for one document of a batch, even if an earlier rule drops the document."""
    batch = replace(batch, all_figures=True)
    for configured in filters:
        result = configured.module.measure(batch, configured.config)
        for rule, figure in zip(configured.module.rules(configured.config), result.figures[row], strict=True):
            yield ExplainedRule(configured.name, rule, float(figure))
        if result.text is not None:
            batch = replace(batch, text=result.text)
