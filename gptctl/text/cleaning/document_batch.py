"""A batch of documents for the filters; its text is split into words once, whichever filters need them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

if TYPE_CHECKING:
    from gptctl.text.words import Words, WordSplitter


@dataclass(frozen=True)
class DocumentBatch:
    """The texts of some documents, their other columns, and how text is split into words.

    `table` has the other columns. `punkt_parameters` come from a sentence splitter that was trained on the input
    (gptctl.text.punkt); "" means none. With `match_datatrove`, words are those with which datatrove's decisions were
    made, and a filter repeats datatrove's known bugs as well (`--filter-compat datatrove`). With `all_figures`, a
    filter measures every figure, even if an earlier one already drops the document.
    """

    text: pa.LargeStringArray
    table: pa.Table | None = None
    splitter: WordSplitter = "regex"
    match_datatrove: bool = False
    punkt_parameters: str = ""
    all_figures: bool = False

    def __len__(self) -> int:
        return len(self.text)

    @cached_property
    def words(self) -> Words:
        """The words of all documents, computed at the first use."""
        from gptctl.text.words import split_batch

        return split_batch(self.text, self.splitter, self.punkt_parameters, self.match_datatrove)

    def word_counts(self) -> NDArray[np.int64]:
        """Count each document's words without storing the words."""
        from gptctl.text.words import count_batch

        if "words" in self.__dict__:
            return self.words.counts()
        return count_batch(self.text, self.splitter, self.punkt_parameters, self.match_datatrove)

    def column(self, name: str) -> pa.StringArray:
        """Return a column as strings, or nulls if the input has no such column."""
        if self.table is None or name not in self.table.column_names:
            return pa.nulls(len(self), pa.string())
        return self.table[name].cast(pa.string()).combine_chunks()

    def filter(self, mask: pa.BooleanArray) -> DocumentBatch:
        """Return the documents for which the mask is true. Words that were computed are not computed again."""
        table = None if self.table is None else self.table.filter(mask)
        selected = replace(self, text=self.text.filter(mask), table=table)
        if "words" in self.__dict__:
            selected.__dict__["words"] = self.words.filter(mask.to_numpy(zero_copy_only=False))
        return selected
