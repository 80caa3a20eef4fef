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
from gptctl.text.cleaning.document_batch import DocumentBatch
from gptctl.text.cleaning.rule import drop_reasons
from gptctl.text.filters import Filter

FILTERS = "gptctl.text.filters"


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


@dataclass
class ChainResult:
    """What a chain made of a batch.

    `reasons` are null for documents that are kept. `columns` are new ones, `stats` counts for the summary.
    """

    text: pa.LargeStringArray
    reasons: pa.StringArray
    columns: dict[str, pa.Array] = field(default_factory=dict)
    stats: Counter[str] = field(default_factory=Counter)


def apply_filters(batch: DocumentBatch, filters: Sequence[ConfiguredFilter]) -> ChainResult:
    """Apply filters in order. Each receives the documents that the earlier ones kept, with their rewritten texts."""
    chain = ChainResult(batch.text, pa.nulls(len(batch), pa.string()))
    rows = np.arange(len(batch))  # of the documents that are still kept
    for configured in filters:
        if not len(rows):
            break
        result = configured.module.measure(batch, configured.config)
        chain.stats.update(result.stats)
        for name, values in result.columns.items():
            earlier = chain.columns.get(name, pa.nulls(len(chain.text), values.type))
            chain.columns[name] = replace_rows(earlier, rows, values)
        reasons = drop_reasons(configured.name, configured.module.rules(configured.config), result.figures)
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
