"""Removing repeated lines, paragraphs or passages from the documents of a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gptctl.core.summary import Counts
from gptctl.io.dataset.schema import text_bytes, with_kind
from gptctl.io.input.blocks import ShardTask
from gptctl.pipeline.sorted_runs import of_task
from gptctl.pipeline.task_results import TaskOutput
from gptctl.text.dedup.repeated_text.method import Method
from gptctl.text.dedup.repeated_text.search import Workspace
from gptctl.text.dedup.report import LARGEST, sample_text

DROP_REASON = "only_duplicates"  # nothing of the document is left


@dataclass(frozen=True)
class RemoveRepeats:
    """Removes the repeats from the documents of a task, in a worker.

    `against_tasks` is the number of tasks of `--against`, which come before those of INPUT.
    """

    method: Method
    workspace: Workspace
    against_tasks: int

    def __call__(self, task: ShardTask, table: pa.Table) -> TaskOutput:
        """Return the changed documents. One of which nothing is left is dropped."""
        text = table["text"].combine_chunks()
        number = self.against_tasks + task.index
        repeats = self.workspace.repeats_of(number)
        positions = (repeats["location"].to_numpy() - np.uint64(of_task(number)[0])).astype(np.int64)
        rest, removed, removed_bytes = self.method.remove(text, positions)
        is_empty = pc.and_(pc.equal(pc.binary_length(rest), 0), pc.greater(pc.binary_length(text), 0))
        kept = table.set_column(table.column_names.index("text"), "text", rest).filter(pc.invert(is_empty))
        counts = Counts(documents_in=len(table), kept=len(kept), bytes_in=text_bytes(table))
        counts.bytes_kept = text_bytes(kept)
        if len(kept) < len(table):
            counts.dropped[DROP_REASON] = len(table) - len(kept)
            counts.dropped_bytes[DROP_REASON] = int(pc.sum(pc.binary_length(text.filter(is_empty))).as_py())
        kept = kept.replace_schema_metadata(with_kind(kept.schema, "documents").metadata)
        changed = int(pc.sum(pc.not_equal(pc.binary_length(rest), pc.binary_length(text))).as_py() or 0)
        figures = {"removed": removed, "removed_bytes": removed_bytes, "changed": changed}
        return TaskOutput({"": kept}, counts, figures | {"often": self._most_often(text, repeats, positions)})

    def _most_often(
        self, text: pa.LargeStringArray, repeats: pa.Table, positions: NDArray[np.int64]
    ) -> list[list[Any]]:
        """Return the repeats that occur most often: key, number of repetitions in INPUT, beginning of the text.

        Only the first of consecutive windows counts, as they make one passage.
        """
        rows = np.arange(len(positions))
        if self.method.name == "substring":
            rows = np.flatnonzero(np.diff(positions, prepend=-2) > 1)
        times, keys = repeats["times"].to_numpy()[rows], repeats["key"].to_numpy()[rows]
        _, first = np.unique(keys, return_index=True)
        chosen = first[np.lexsort((first, -times[first]))][:LARGEST]
        texts = self.method.texts_at(text, positions[rows[chosen]])
        return [
            [f"{key:016x}", count, sample_text(one)]
            for key, count, one in zip(keys[chosen].tolist(), times[chosen].tolist(), texts, strict=True)
        ]
