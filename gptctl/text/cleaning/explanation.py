"""Explain the decision on one document: the figure of every rule and its threshold, for `gptctl clean --explain`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gptctl.core.errors import UsageError
from gptctl.core.summary import Table
from gptctl.io.input.blocks import ReadOptions, ShardTask
from gptctl.io.input.read_task import read_task
from gptctl.text.cleaning.clean_task import CleanTask
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
    words: dict[str, float]  # what decided, with weights; nothing for most filters

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
        } | ({"words": self.words} if self.words else {})


def explain_rules(batch: DocumentBatch, filters: Sequence[ConfiguredFilter], row: int) -> Iterator[ExplainedRule]:
    """Yield every rule with its figure for one document of a batch, even if an earlier rule drops the document."""
    batch = replace(batch, all_figures=True)
    for configured in filters:
        rules = configured.rules()
        result = configured.measure(batch, rules)
        words = configured.explain(batch.text[row].as_py() or "")
        for rule, figure in zip(rules, result.figures[row], strict=True):
            yield ExplainedRule(configured.name, rule, float(figure), words)
        if result.text is not None:
            batch = replace(batch, text=result.text)


@dataclass(frozen=True)
class Explanation:
    """Whether a document is kept or dropped, and what each rule measured."""

    verdict: Literal["kept", "dropped"]
    rules: tuple[ExplainedRule, ...]

    def tables(self, title: str) -> tuple[Table, ...]:
        """Return a table of the rules, and one of the words that decided for each filter that tells them."""
        rules = Table(f"{title}: {self.verdict}", ExplainedRule.COLUMNS, tuple(rule.row() for rule in self.rules))
        return rules, *(
            Table(
                f"words that decided {rule.filter_name}.{rule.rule.key}",
                ("", "weight"),
                tuple((word, f"{weight:+.4g}") for word, weight in rule.words.items()),
            )
            for rule in self.rules
            if rule.words
        )


def explain_document(
    clean_task: CleanTask, tasks: Iterable[ShardTask], reading: ReadOptions, wanted_id: str
) -> Explanation:
    """Find a document by its id and explain it.

    Raises UsageError (2) if no document has this id, or if no text can be extracted from it.
    """
    for task in tasks:
        table = read_task(task, reading).documents
        row = pc.index(table["id"], pa.scalar(wanted_id)).as_py()
        if row < 0:
            continue
        batch, reasons = clean_task.extract_texts(table)
        if reasons[row].is_valid:
            raise UsageError(
                f"no text can be extracted from document {wanted_id}: {reasons[row]}", "see --set html_seconds"
            )
        rules = tuple(explain_rules(batch, clean_task.filters, row))
        kept = clean_task(task, table).tables[""]
        is_kept = pc.index(kept["id"], pa.scalar(wanted_id)).as_py() >= 0
        return Explanation("kept" if is_kept else "dropped", rules)
    raise UsageError(
        f"no document has the id '{wanted_id}'", "gptctl inspect shows ids; --id-column names their column"
    )
