"""Apply filters one after the other; the first that drops a document names the reason, and some rewrite texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gptctl.core import plugins
from gptctl.core.config import Settings
from gptctl.core.errors import UsageError
from gptctl.text.cleaning.document_batch import DocumentBatch
from gptctl.text.cleaning.rule import FilterResult, Rule, drop_reasons
from gptctl.text.filters import Filter

FILTERS = "gptctl.text.filters"
CONTRACT_HINT = plugins.contract_hint(FILTERS)


def load_filter(name: str) -> Filter:
    """Import a filter. Raises UsageError for an unknown name."""
    return cast(Filter, plugins.load(FILTERS, name))


@dataclass(frozen=True)
class ConfiguredFilter:
    """One filter of a chain with its settings."""

    name: str
    config: Settings

    @property
    def module(self) -> Filter:
        """The filter's module."""
        return load_filter(self.name)

    @property
    def compares_documents(self) -> bool:
        """Whether the filter needs all documents of a task at once."""
        return getattr(self.module, "COMPARES_DOCUMENTS", False)

    def fingerprints(self) -> dict[str, str]:
        """Return a hash of each file that the filter reads besides the documents, by a name for it.

        Raises what the filter raises for a file that cannot be used.
        """
        function: Any = getattr(self.module, "fingerprints", None)
        if function is None:
            return {}
        with plugins.failures(FILTERS, self.name, "fingerprints"):
            return dict(function(self.config))

    def explain(self, text: str) -> dict[str, float]:
        """Return the parts of a text that decide, with their weights; nothing for filters that do not tell."""
        function: Any = getattr(self.module, "explain", None)
        if function is None:
            return {}
        with plugins.failures(FILTERS, self.name, "explain"):
            return dict(function(text, self.config))

    def rules(self) -> Sequence[Rule]:
        """Return the filter's rules. Raises UsageError (2) if a plug-in fails or returns something else."""
        with plugins.failures(FILTERS, self.name, "rules"):
            rules: Any = self.module.rules(self.config)
        if not isinstance(rules, Sequence) or not all(isinstance(rule, Rule) for rule in rules):
            raise UsageError(f"plug-in {self.name}: rules returned no tuple of Rule: {rules!r}", CONTRACT_HINT)
        return cast("Sequence[Rule]", rules)

    def measure(self, batch: DocumentBatch, rules: Sequence[Rule]) -> FilterResult:
        """Measure a batch. Raises UsageError (2) if a plug-in fails or its result does not fit the batch."""
        with plugins.failures(FILTERS, self.name, "measure"):
            result = self.module.measure(batch, self.config)
        if problem := result_problem(result, (len(batch), len(rules))):
            raise UsageError(f"plug-in {self.name}: measure returned {problem}", CONTRACT_HINT)
        return result


def result_problem(result: object, shape: tuple[int, int]) -> str:
    """Return how the result of a filter fails to fit a batch with as many documents and rules, or an empty string."""
    if not isinstance(result, FilterResult):
        return f"{type(result).__name__}, expected FilterResult"
    figures: object = result.figures
    if not isinstance(figures, np.ndarray):
        return f"figures of type {type(figures).__name__}, expected a NumPy array"
    if figures.shape != shape:
        return f"figures of shape {figures.shape}, expected {shape}: one row per document, one column per rule"
    parts = {"texts": result.text} if result.text is not None else {}
    for name, values in (
        parts | {f"values in column {name}": column for name, column in result.columns.items()}
    ).items():
        if len(values) != shape[0]:
            return f"{len(values)} {name}, expected {shape[0]}: one per document"
    return ""


@dataclass
class ChainResult:
    """What a chain made of a batch.

    `reasons` are null for documents that are kept. `columns` are new ones, `stats` counts for the summary, and
    `found` counts of what filters looked for.
    """

    text: pa.LargeStringArray
    reasons: pa.StringArray
    columns: dict[str, pa.Array] = field(default_factory=dict)
    stats: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)


def apply_filters(batch: DocumentBatch, filters: Sequence[ConfiguredFilter]) -> ChainResult:
    """Apply filters in order. Each receives the documents that the earlier ones kept, with their rewritten texts."""
    chain = ChainResult(batch.text, pa.nulls(len(batch), pa.string()))
    rows = np.arange(len(batch))  # of the documents that are still kept
    for configured in filters:
        if not len(rows):
            break
        rules = configured.rules()
        result = configured.measure(batch, rules)
        chain.stats.update(result.stats)
        chain.found.update(result.found)
        for name, values in result.columns.items():
            earlier = chain.columns.get(name, pa.nulls(len(chain.text), values.type))
            chain.columns[name] = replace_rows(earlier, rows, values)
        reasons = drop_reasons(configured.name, rules, result.figures)
        kept = pc.is_null(reasons)
        if result.text is not None:
            chain.text = replace_rows(chain.text, rows, result.text)
        if reasons.null_count < len(reasons):
            chain.reasons = replace_rows(chain.reasons, rows, reasons)
            rows = rows[kept.to_numpy(zero_copy_only=False)]
            batch = batch.filter(kept)
        if result.text is not None:
            text = result.text if reasons.null_count == len(reasons) else result.text.filter(kept)
            batch = replace(batch, text=text)
    return chain


def replace_rows(column: pa.Array, rows: NDArray[Any], values: pa.Array) -> pa.Array:
    """Return a column with the values of some rows replaced."""
    if len(rows) == len(column):
        return values
    mask = np.zeros(len(column), bool)
    mask[rows] = True
    return pc.replace_with_mask(column, pa.array(mask), values)
