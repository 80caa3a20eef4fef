"""A batch of documents on their way through the filters, split into words once, whichever filters need them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

if TYPE_CHECKING:
    from gptctl.text.words import Splitter, Words


@dataclass(frozen=True)
class Batch:
    """Documents: their text, the other columns beside it, and how text is split into words.

    `punkt` holds the parameters of a sentence splitter trained on the user's text (gptctl.text.punkt), or "".
    `complete` asks for all figures, also behind one that drops the document. `compat` is true where a filter should
    repeat datatrove's mistakes too (`--filter-compat datatrove`).
    """

    text: pa.LargeStringArray
    table: pa.Table | None = None
    splitter: Splitter = "regex"
    compat: bool = False
    punkt: str = ""
    complete: bool = False

    def __len__(self) -> int:
        return len(self.text)

    @cached_property
    def words(self) -> Words:
        """All documents' words; found at the first use."""
        from gptctl.text.words import split_batch

        return split_batch(self.text, self.splitter, self.punkt)

    def word_counts(self) -> NDArray[np.int64]:
        """Count each document's words, without keeping them."""
        from gptctl.text.words import count_batch

        return self.words.counts() if "words" in self.__dict__ else count_batch(self.text, self.splitter, self.punkt)

    def column(self, name: str) -> pa.StringArray:
        """Return a column as strings, nulls where the input has no such column."""
        if self.table is None or name not in self.table.column_names:
            return pa.nulls(len(self), pa.string())
        return self.table[name].cast(pa.string()).combine_chunks()

    def only(self, kept: pa.BooleanArray) -> Batch:
        """Return the documents marked true; words that were found already stay found."""
        table = None if self.table is None else self.table.filter(kept)
        fewer = replace(self, text=self.text.filter(kept), table=table)
        if "words" in self.__dict__:
            fewer.__dict__["words"] = self.words.only(kept.to_numpy(zero_copy_only=False))
        return fewer


@dataclass(frozen=True)
class Rule:
    """One reason to drop a document: its figure lies above (or below) the threshold."""

    reason: str
    figure: str
    threshold: float
    above: bool = True

    def fails(self, figures: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell for which figures a document is dropped. NaN, "not measured", never is."""
        return np.asarray(figures > self.threshold if self.above else figures < self.threshold)


@dataclass(frozen=True)
class Measured:
    """What a filter found in a batch.

    `figures` (documents, rules): one number for each of the filter's rules. `text`: what the filter makes of the
    documents that it keeps, if it rewrites. `columns`: what it adds to the table. `notes`: sums to report.
    """

    figures: NDArray[np.float64]
    text: pa.LargeStringArray | None = None
    columns: dict[str, pa.Array] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)


def decide(rules: Sequence[Rule], figures: NDArray[np.float64]) -> pa.StringArray:
    """Give each document's reason to go, that of the first rule that fails, or null where it stays."""
    if not rules:
        return pa.nulls(len(figures), pa.string())
    failed = np.stack([rule.fails(figures[:, number]) for number, rule in enumerate(rules)], axis=1)
    first = np.where(failed.any(axis=1), failed.argmax(axis=1), len(rules)).astype(np.int32)
    names: list[Any] = [*(rule.reason for rule in rules), None]
    return pa.array(names, pa.string()).take(pa.array(first))
