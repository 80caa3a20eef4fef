"""Duplicates that have different labels: at least one of the labels is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.pipeline.sorted_runs import SortedRuns
from gptctl.text.dedup.report import sample_text
from gptctl.text.dedup.sorted_arrays import run_starts

FOLDER = "conflicts"  # below OUT: a table of these documents
MOST_LABELS = 101  # that are counted: more are hardly classes


def distinct_labels(labels: Iterable[str | None]) -> list[str]:
    """Return the first MOST_LABELS of the different labels, sorted."""
    return sorted({label for label in labels if label is not None})[:MOST_LABELS]


def has_labels(documents: SortedRuns) -> bool:
    """Return whether a document has a label, from the runs of a workspace."""
    return any(documents.open(number)["label"].to_numpy().any() for number in documents.numbers())


def has_different_labels(cluster: NDArray[np.int64], label: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Mark the documents of clusters, numbered from 0, that have two labels. The label 0 is none."""
    labelled = np.flatnonzero(label)
    order = labelled[np.lexsort((label[labelled], cluster[labelled]))]
    is_new = run_starts(cluster[order].astype(np.uint64)) | run_starts(label[order])
    labels = np.bincount(cluster[order][is_new], minlength=int(cluster.max(initial=-1)) + 1)
    return np.asarray((labels > 1)[cluster])


def count(cluster: NDArray[np.int64], is_conflicting: NDArray[np.bool_]) -> dict[str, int]:
    """Return the number of clusters and documents that `has_different_labels` has marked."""
    return {"clusters": len(np.unique(cluster[is_conflicting])), "documents": int(is_conflicting.sum())}


def warning(found: dict[str, int], column: str, out: str) -> str:
    """Return a line about duplicates with different labels, which names the table of them."""
    return (
        f"{found['clusters']:,} clusters of duplicates ({found['documents']:,} documents) have different labels in "
        f"'{column}'; see gptctl inspect {out}/{FOLDER}"
    )


def rows_of(
    table: pa.Table, rows: NDArray[np.int64], clusters: pa.Array, labels: Sequence[str | None], verdicts: pa.Array
) -> pa.Table:
    """Return the table of some documents with their clusters and labels, and with the `verdict` on each."""
    return pa.table(
        {
            "cluster_id": clusters,
            "id": table["id"].take(pa.array(rows)).cast(pa.string()),
            "label": pa.array([labels[row] for row in rows.tolist()], pa.string()),
            "verdict": verdicts,
            "begins": pa.array([sample_text(table["text"][row].as_py()) for row in rows.tolist()], pa.string()),
        }
    )
