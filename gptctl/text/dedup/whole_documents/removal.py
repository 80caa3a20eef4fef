"""The last step: drop the duplicates of each task, and write which cluster each document belongs to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gptctl.core.summary import Counts
from gptctl.io.dataset import stream
from gptctl.io.dataset.schema import text_bytes, with_kind
from gptctl.io.input.blocks import ShardTask
from gptctl.io.labels import labels_in
from gptctl.pipeline.task_results import TaskOutput
from gptctl.text.dedup import conflicts
from gptctl.text.dedup.report import sample_text
from gptctl.text.dedup.whole_documents.criteria import Criteria
from gptctl.text.dedup.whole_documents.decisions import DROP_REASONS, SURVIVOR


@dataclass(frozen=True)
class RemoveDuplicates:
    """Drops the duplicates of a task, in a worker, by the decisions that came with it."""

    criteria: Criteria
    label_column: str

    def __call__(self, task: ShardTask, table: pa.Table) -> TaskOutput:
        """Return the kept documents with their `cluster_id`, and the rows of the table of clusters."""
        text = table["text"].combine_chunks()
        decisions = stream.from_bytes(task.payload)
        rows, verdicts = decisions["row"].to_numpy(), np.array(decisions["verdict"].to_pylist(), object)
        cluster_ids = self._cluster_ids(text, decisions)
        if "cluster_id" in table.column_names:
            table = table.drop_columns(["cluster_id"])
        table = table.append_column("cluster_id", cluster_ids)
        is_kept = np.ones(len(table), np.bool_)
        is_kept[rows] = verdicts == SURVIVOR
        kept = table.filter(pa.array(is_kept))
        members = pa.table(
            {
                "id": table["id"].take(pa.array(rows)),
                "cluster_id": cluster_ids.take(pa.array(rows)),
                "survivor": decisions["survivor"].cast(pa.string()),
                "similarity": decisions["similarity"],
                "verdict": decisions["verdict"].cast(pa.string()),
            }
        )
        sizes = decisions["cluster_size"].to_numpy()
        samples = [
            [members["cluster_id"][number].as_py(), int(sizes[number]), sample_text(text[int(rows[number])].as_py())]
            for number in np.flatnonzero(sizes).tolist()
        ]
        labels = labels_in(table, self.label_column)
        chosen = decisions["conflict"].to_numpy(zero_copy_only=False)
        verdict = members["verdict"].combine_chunks().filter(pa.array(chosen))
        clusters = members["cluster_id"].filter(pa.array(chosen))
        different = conflicts.rows_of(table, rows[chosen], clusters, labels, verdict)
        stats = {
            "samples": samples,
            "labels": conflicts.distinct_labels(labels),
            "segmenters": self.criteria.segmenters_used(text),
        }
        kept = kept.replace_schema_metadata(with_kind(kept.schema, "documents").metadata)
        counts = count(text, kept, rows, verdicts)
        return TaskOutput({"": kept}, counts, stats, {"clusters": members, conflicts.FOLDER: different})

    def _cluster_ids(self, text: pa.LargeStringArray, decisions: pa.Table) -> pa.Array:
        """Return the cluster id of each document. A document without a duplicate is a cluster of its own."""
        clusters = self.criteria.exact_keys(text)[:, 0].copy()
        clusters[decisions["row"].to_numpy()] = decisions["cluster"].to_numpy()
        return pa.array([f"{value:016x}" for value in clusters.tolist()], pa.string())


def count(text: pa.LargeStringArray, kept: pa.Table, rows: NDArray[np.int64], verdicts: NDArray[np.object_]) -> Counts:
    """Count the documents and bytes that were kept, and that were dropped for each reason."""
    sizes = pc.binary_length(text).to_numpy(zero_copy_only=False).astype(np.int64)
    counts = Counts(documents_in=len(text), kept=len(kept), bytes_in=int(sizes.sum()), bytes_kept=text_bytes(kept))
    for reason in DROP_REASONS:
        dropped = rows[verdicts == reason]
        if len(dropped):
            counts.dropped[reason] = len(dropped)
            counts.dropped_bytes[reason] = int(sizes[dropped].sum())
    return counts
