"""For each duplicate, whether it is dropped and why. Each task gets the decisions on its own documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gptctl.io.dataset import stream
from gptctl.io.input.blocks import ShardTask
from gptctl.pipeline.sorted_runs import ROW_BITS, distinct, of_task
from gptctl.text.dedup import conflicts
from gptctl.text.dedup.report import LARGEST
from gptctl.text.dedup.whole_documents.clusters import IN_INDEX, Clusters
from gptctl.text.dedup.whole_documents.verification import compare_exact_keys
from gptctl.text.dedup.whole_documents.workspace import Workspace, lookup

DOCUMENT_BYTES = 300  # memory for each document while decisions are looked up
SURVIVOR = "survivor"
# No setting decides these alone, so they are not named after a key: a document is near or not by threshold, num_perm,
# bands, ngram and verify together, and a copy is a copy by any settings.
DROP_REASONS = ("exact_duplicate", "near_duplicate", "in_against", "in_index")


@dataclass(frozen=True)
class Decisions:
    """Decides about each document in `clusters`. The documents of INPUT begin at `input_start`."""

    workspace: Workspace
    clusters: Clusters
    input_start: int
    max_memory: int

    def attach(self, tasks: Iterable[ShardTask]) -> Iterator[ShardTask]:
        """Yield the tasks of INPUT with the decisions about their documents as a note.

        Clusters extend over all tasks. Facts about survivors are looked up for many tasks at a time, so that the runs
        of other tasks are opened a few times in all, and not for each task.
        """
        docs, batch_size = self.clusters.docs, max(1, self.max_memory // DOCUMENT_BYTES)
        batch_start, batch = 0, self.describe(slice(0, 0))
        for task in tasks:
            low, high = of_task((self.input_start >> ROW_BITS) + task.index)
            start, stop = np.searchsorted(docs, np.array([low, high], np.uint64)).tolist()
            if stop > batch_start + len(batch):
                batch_start, batch = start, self.describe(slice(start, max(stop, start + batch_size)))
            rows = pa.array((docs[start:stop] - np.uint64(low)).astype(np.int64))
            decisions = batch.slice(start - batch_start, stop - start).add_column(0, "row", rows)
            yield replace(task, payload=stream.to_bytes(decisions))

    def describe(self, part: slice) -> pa.Table:
        """Return the decisions about a slice of the documents.

        `cluster` is the upper half of the exact key of the cluster's first document. `survivor` is the id of the
        document kept for this one, null if an earlier run inserted it into an index. `similarity` is null if the two
        were not compared. `verdict` is "survivor" or one of DROP_REASONS. `cluster_size` is the size of the cluster if
        this document is shown as a sample of it, else 0. `conflict` says whether the cluster has different labels.
        """
        docs, survivor, first = (
            values[part] for values in (self.clusters.docs, self.clusters.survivor, self.clusters.first)
        )
        similarity, is_in_index = self.clusters.similarity[part], survivor == IN_INDEX
        survivor = np.where(is_in_index, docs, survivor)
        is_copy, cluster = np.empty(0, np.bool_), np.empty(0, np.uint64)
        ids = pa.array([], pa.large_string())
        if len(docs):
            is_copy = compare_exact_keys(self.workspace, docs, survivor)[0]
            wanted = distinct(np.concatenate([survivor, first]))
            facts = lookup(self.workspace.documents, wanted, ["high", "id"]).combine_chunks()
            cluster = facts["high"].to_numpy()[np.searchsorted(wanted, first)]
            ids = facts["id"].take(pa.array(np.searchsorted(wanted, survivor))).combine_chunks()
        verdict = np.where(is_copy, "exact_duplicate", "near_duplicate").astype(object)
        verdict[survivor < np.uint64(self.input_start)] = "in_against"
        verdict[self.clusters.is_kept[part]] = SURVIVOR
        verdict[is_in_index] = "in_index"
        return pa.table(
            {
                "cluster": cluster,
                "survivor": pc.if_else(pa.array(is_in_index), pa.scalar(None, pa.large_string()), ids),
                "similarity": pa.array(similarity, mask=np.isnan(similarity)),
                "verdict": pa.array(verdict, pa.string()).dictionary_encode(),
                "cluster_size": pa.array([self._largest.get(doc, 0) for doc in docs.tolist()], pa.int64()),
                "conflict": pa.array(self.is_conflicting[part]),
            }
        )

    @cached_property
    def is_conflicting(self) -> NDArray[np.bool_]:
        """Mark the documents of clusters that have different labels, which include those of `--against`."""
        docs = self.clusters.docs
        if not len(docs):
            return np.empty(0, np.bool_)
        label = lookup(self.workspace.documents, docs, ["label"])["label"].to_numpy()
        return conflicts.has_different_labels(self.cluster_numbers, label)

    @cached_property
    def cluster_numbers(self) -> NDArray[np.int64]:
        """Return the cluster of each document, numbered from 0."""
        return np.unique(self.clusters.first, return_inverse=True)[1].astype(np.int64)

    @cached_property
    def _largest(self) -> dict[int, int]:
        """The first INPUT document of each of the largest clusters, with the size of the cluster."""
        first, sizes = self.clusters.sizes(self.input_start)
        chosen = np.lexsort((first, -sizes))[:LARGEST]
        return dict(zip(first[chosen].tolist(), sizes[chosen].tolist(), strict=True))
