"""Units: documents that stay together, because they are duplicates or have the same group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gptctl.io.labels import ABSENT
from gptctl.pipeline import sorted_runs
from gptctl.pipeline.sorted_runs import SortedRuns
from gptctl.text.dedup.conflicts import has_different_labels
from gptctl.text.dedup.whole_documents.candidates import pair_buckets
from gptctl.text.dedup.whole_documents.search import SORTING_BYTES
from gptctl.text.dedup.whole_documents.workspace import Docs, Workspace, lookup
from gptctl.text.dedup.worker_pool import WorkerPool


@dataclass(frozen=True)
class Units:
    """The documents that are in a unit of at least two, in the order of the input, with what is known of each.

    `number` is the unit of each, from 0 in the order of the first documents. `cluster` is the upper half of the exact
    key of the unit's first document. Documents that lack a value are not among them.
    """

    docs: Docs
    number: NDArray[np.int64]
    cluster: NDArray[np.uint64]
    label: NDArray[np.uint64]
    place: NDArray[np.uint64]

    @classmethod
    def read(cls, workspace: Workspace, docs: Docs, first: Docs) -> Units:
        """Return the units of clusters, given as the documents in a cluster and the first document of each one's."""
        if not len(docs):
            none = np.empty(0, np.uint64)
            return cls(none, np.empty(0, np.int64), none, none, none)
        facts = lookup(workspace.documents, docs, ["high", "label", "place", "missing"])
        high, label, place, missing = (facts[name].to_numpy() for name in ("high", "label", "place", "missing"))
        cluster = high[np.searchsorted(docs, first)]
        here = missing == 0
        number = np.unique(first[here], return_inverse=True)[1].astype(np.int64)
        return cls(docs[here], number, cluster[here], label[here], place[here])

    def sizes(self) -> NDArray[np.int64]:
        """Return the number of documents in each unit."""
        return np.bincount(self.number).astype(np.int64)

    def counts(self) -> dict[str, int]:
        """Return the number of units of at least two documents, of their documents, and of those of the largest."""
        sizes = self.sizes()
        sizes = sizes[sizes > 1]
        return {"clusters": len(sizes), "documents": int(sizes.sum()), "largest": int(sizes.max(initial=0))}

    def conflicting(self) -> NDArray[np.bool_]:
        """Mark the documents of units in which two documents have different labels."""
        return has_different_labels(self.number, self.label)


def pair_groups(workspace: Workspace, pool: WorkerPool) -> Iterator[tuple[Docs, Docs]]:
    """Pair each document with the first one of its group, a part of all groups after the other."""
    runs = SortedRuns(workspace.folder / "groups")
    documents = 0
    for number in workspace.documents.numbers():
        table = workspace.documents.open(number)
        group, doc = table["place"].to_numpy(), table["doc"].to_numpy()
        documents += runs.write(number, {"group": group[group != ABSENT], "doc": doc[group != ABSENT]})
    for low, high in sorted_runs.ranges(pool.partitions(documents, SORTING_BYTES)):
        found = runs.between(low, high)
        if found is not None:
            yield pair_buckets(found["group"].to_numpy(), found["doc"].to_numpy())
