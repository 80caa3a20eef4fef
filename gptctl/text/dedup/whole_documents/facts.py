"""What the choice of survivors, and the search for conflicting labels, need to know of each document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from gptctl.io.labels import label_hashes, labels_in
from gptctl.text.dedup.whole_documents import keep_policy


@dataclass(frozen=True)
class SurvivorFacts:
    """Returns the rank of each document by the policy `keep`, and the hash of its label."""

    keep: str
    label_column: str

    def __call__(self, table: pa.Table) -> dict[str, NDArray[Any]]:
        """Return the columns `rank` and `label` for a table of documents."""
        labels = label_hashes(labels_in(table, self.label_column))
        return {"rank": keep_policy.ranks(self.keep, table), "label": labels}
