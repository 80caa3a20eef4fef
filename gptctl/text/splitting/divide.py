"""The last step: write the documents of each task into their splits."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.core.summary import Counts
from gptctl.io.dataset import stream
from gptctl.io.dataset.schema import text_bytes, with_kind
from gptctl.io.input.blocks import ShardTask
from gptctl.io.labels import lacking_records
from gptctl.pipeline.task_results import TaskOutput
from gptctl.text.arrow_arrays import mask
from gptctl.text.dedup import conflicts
from gptctl.text.dedup.whole_documents.criteria import Criteria
from gptctl.text.splitting.assignment import Cuts
from gptctl.text.splitting.facts import SplitFacts
from gptctl.text.splitting.order import SplitOrder
from gptctl.text.tokenization.splits import NAMES


@dataclass(frozen=True)
class DivideTask:
    """Divides a task's documents, in a worker, by the decisions that came with it and by cuts."""

    criteria: Criteria
    facts: SplitFacts
    order: SplitOrder
    cuts: Cuts

    def __call__(self, task: ShardTask, table: pa.Table) -> TaskOutput:
        """Return the documents of each split, those that lack a value, and the table of conflicting labels."""
        decisions = stream.from_bytes(task.payload)
        facts = self.facts(table)
        keys = self.criteria.exact_keys(table["text"].combine_chunks())
        positions = self.order.positions(keys[:, 0], keys[:, 1], facts["place"])
        split = self.cuts.split_of(self.order.strata(facts["label"]), *positions)
        split[decisions["row"].to_numpy()] = decisions["split"].to_numpy()
        is_used = facts["missing"] == 0
        metadata = with_kind(table.schema, "documents").metadata
        tables = {
            name: table.filter(mask(is_used & (split == number))).replace_schema_metadata(metadata)
            for number, name in enumerate(NAMES)
        }
        written = {name: part for name, part in tables.items() if len(part)}
        labels = self.facts.labels(table)
        kept = sum(map(len, written.values()))
        counts = Counts(documents_in=kept, kept=kept, bytes_in=text_bytes(table))
        counts.bytes_kept = sum(map(text_bytes, written.values()))
        stats = {
            "documents": {name: len(part) for name, part in written.items()},
            "bytes": {name: text_bytes(part) for name, part in written.items()},
            "labels": self.count_labels(labels, split, is_used),
            "segmenters": self.criteria.segmenters_used(table["text"].combine_chunks()),
        }
        lacking = lacking_records(table, self.facts.reasons(facts))
        return TaskOutput(written, counts, stats, {conflicts.FOLDER: conflict_rows(table, labels, decisions)}, lacking)

    def count_labels(
        self, labels: list[str | None], split: NDArray[np.uint8], is_used: NDArray[np.bool_]
    ) -> dict[str, dict[str, int]]:
        """Return the documents of each label in each split, if labels are stratified."""
        if not self.order.is_stratified:
            return {}
        found: dict[str, Counter[str]] = {}
        for label, number, used in zip(labels, split.tolist(), is_used.tolist(), strict=True):
            if used and label is not None:
                found.setdefault(label, Counter())[NAMES[number]] += 1
        return {label: dict(counts) for label, counts in sorted(found.items())}


def conflict_rows(table: pa.Table, labels: list[str | None], decisions: pa.Table) -> pa.Table:
    """Return a row for each document whose duplicates have another label. Its verdict is its split."""
    chosen = decisions.filter(decisions["conflict"])
    clusters = pa.array([f"{cluster:016x}" for cluster in chosen["cluster"].to_pylist()], pa.string())
    split = pa.array([NAMES[number] for number in chosen["split"].to_pylist()], pa.string())
    return conflicts.rows_of(table, chosen["row"].to_numpy(), clusters, labels, split)
