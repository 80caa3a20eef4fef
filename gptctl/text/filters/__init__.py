"""The filters of `gptctl clean`, one file each; the file's name is the filter's public name.

A filter is a module with the three members of `Filter`: its thresholds (`Config`), its reasons to drop a document
(`rules`), and a function that measures a batch of documents (`measure`). The first rule that drops a document names the
reason, and `gptctl clean --explain` shows the figure of every rule.

A filter that reads other files may have a function `fingerprints(config)`, which returns a hash of each by a name for
it. A run is a conflict if they differ from those of the run that it continues.

A filter may have a function `explain(text, config)`, which returns parts of a text and the weight of each in the
filter's decision, for `gptctl clean --explain`.

A filter that compares documents with each other also sets `COMPARES_DOCUMENTS = True`. It then receives all documents
of a task in one batch instead of a few at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from gptctl.core.config import Settings
from gptctl.text.cleaning.document_batch import DocumentBatch
from gptctl.text.cleaning.rule import FilterResult, Rule

__all__ = ["CONTRACT", "DocumentBatch", "Filter", "FilterResult", "Rule"]


class Filter(Protocol):
    """What every filter module has."""

    @property
    def Config(self) -> type[Settings]:  # noqa: N802
        """The class of the filter's settings. All of them have defaults, so that `Config()` is valid."""

    def rules(self, config: Any, /) -> Sequence[Rule]:
        """Return the reasons to drop a document, in the order in which they are checked.

        Each rule is named after the config key that sets its threshold. The config is an instance of `Config`.
        """

    def measure(self, batch: DocumentBatch, config: Any, /) -> FilterResult:
        """Measure all documents of a batch: one row of figures per document, one column per rule, in their order.

        A filter may also return rewritten texts, new columns and counts for the summary. The result for a document
        depends on the batch only if the filter sets `COMPARES_DOCUMENTS`.
        """


CONTRACT = Filter
