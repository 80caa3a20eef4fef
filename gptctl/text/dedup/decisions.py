"""What becomes of each document: packed for the task that it is in, and carried out there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gptctl.core.summary import Counts
from gptctl.io.dataset import stream
from gptctl.io.dataset.schema import with_kind
from gptctl.io.input.records import Task
from gptctl.pipeline import execution
from gptctl.pipeline.execution import TaskOutput
from gptctl.pipeline.sorted_runs import ROW_BITS, distinct, of_task
from gptctl.text.dedup import exact, passes
from gptctl.text.dedup.clusters import ELSEWHERE, Clusters
from gptctl.text.dedup.passes import Search
from gptctl.text.dedup.report import LARGEST, excerpt

DOCUMENT_BYTES = 300  # while what becomes of it is looked up
REASONS = ("exact_duplicate", "near_duplicate", "in_against", "in_index")


@dataclass(frozen=True)
class Verdicts:
    """What becomes of each document that has a duplicate. `first_new`: the first place of the input."""

    search: Search
    found: Clusters
    first_new: int
    memory: int

    def noted(self, tasks: Iterable[Task]) -> Iterator[Task]:
        """Pack the verdicts on each task's documents, to travel with it.

        Clusters reach over all tasks: what is known of survivors is looked up for many tasks at a time, so that each
        task's run is opened a few times and not for each other task.
        """
        place, at_once = self.found.place, max(1, self.memory // DOCUMENT_BYTES)
        first, known = 0, self.describe(slice(0, 0))
        for task in tasks:
            low, high = of_task((self.first_new >> ROW_BITS) + task.index)
            start, stop = np.searchsorted(place, np.array([low, high], np.uint64)).tolist()
            if stop > first + len(known):
                first, known = start, self.describe(slice(start, max(stop, start + at_once)))
            rows = pa.array((place[start:stop] - np.uint64(low)).astype(np.int64))
            yield replace(
                task, note=stream.to_bytes(known.slice(start - first, stop - start).add_column(0, "row", rows))
            )

    def describe(self, part: slice) -> pa.Table:
        """Say what becomes of some documents.

        `cluster`: the upper half of the first one's exact key; `survivor`: an id, null where an earlier run had it;
        `similarity` to that, null where it was not compared; `verdict`; `shown`: the size of the cluster of which the
        document is shown in the report, else 0.
        """
        place, survivor, first = self.found.place[part], self.found.survivor[part], self.found.first[part]
        similarity = self.found.similarity[part]
        elsewhere = survivor == ELSEWHERE
        survivor = np.where(elsewhere, place, survivor)
        same, cluster = np.empty(0, np.bool_), np.empty(0, np.uint64)
        names = pa.array([], pa.large_string())
        if len(place):
            same = passes.exact_facts(self.search, place, survivor)[0]
            wanted = distinct(np.concatenate([survivor, first]))
            known = passes.gather(self.search.documents, wanted, ["high", "id"]).combine_chunks()
            cluster = known["high"].to_numpy()[np.searchsorted(wanted, first)]
            names = known["id"].take(pa.array(np.searchsorted(wanted, survivor))).combine_chunks()
        verdict = np.where(same, "exact_duplicate", "near_duplicate").astype(object)
        verdict[survivor < np.uint64(self.first_new)] = "in_against"
        verdict[self.found.kept[part]] = "survivor"
        verdict[elsewhere] = "in_index"
        return pa.table(
            {
                "cluster": cluster,
                "survivor": pc.if_else(pa.array(elsewhere), pa.scalar(None, pa.large_string()), names),
                "similarity": pa.array(similarity, mask=np.isnan(similarity)),
                "verdict": pa.array(verdict, pa.string()).dictionary_encode(),
                "shown": pa.array([self.largest.get(one, 0) for one in place.tolist()], pa.int64()),
            }
        )

    @cached_property
    def largest(self) -> dict[int, int]:
        """The first documents of the largest clusters in the input, with how many each cluster has."""
        first, counts = self.found.sizes(self.first_new)
        chosen = np.lexsort((first, -counts))[:LARGEST]
        return dict(zip(first[chosen].tolist(), counts[chosen].tolist(), strict=True))


def keep_survivors(normalized: bool, task: Task, table: pa.Table) -> TaskOutput:
    """Drop the duplicates of one task, in a worker, and note the clusters they belong to."""
    text = table["text"].combine_chunks()
    verdicts = stream.from_bytes(task.note)
    rows, verdict = verdicts["row"].to_numpy(), np.array(verdicts["verdict"].to_pylist(), object)
    own = (exact.normalized_keys(text) if normalized else exact.keys(text))[:, 0].copy()
    own[rows] = verdicts["cluster"].to_numpy()
    cluster = pa.array([f"{value:016x}" for value in own.tolist()], pa.string())
    if "cluster_id" in table.column_names:
        table = table.drop_columns(["cluster_id"])
    table = table.append_column("cluster_id", cluster)
    kept = np.ones(len(table), np.bool_)
    kept[rows] = verdict == "survivor"
    result = table.filter(pa.array(kept))
    sizes = pc.binary_length(text).to_numpy(zero_copy_only=False).astype(np.int64)
    counts = Counts(
        documents_in=len(table), kept=len(result), bytes_in=int(sizes.sum()), bytes_kept=execution.text_bytes(result)
    )
    for reason in REASONS:
        gone = rows[verdict == reason]
        if len(gone):
            counts.dropped[reason] = len(gone)
            counts.dropped_bytes[reason] = int(sizes[gone].sum())
    members = pa.table(
        {
            "id": table["id"].take(pa.array(rows)),
            "cluster_id": cluster.take(pa.array(rows)),
            "survivor": verdicts["survivor"].cast(pa.string()),
            "similarity": verdicts["similarity"],
            "verdict": verdicts["verdict"].cast(pa.string()),
        }
    )
    shown = verdicts["shown"].to_numpy()
    samples = [
        [members["cluster_id"][row].as_py(), int(shown[row]), excerpt(text[int(rows[row])].as_py())]
        for row in np.flatnonzero(shown).tolist()
    ]
    result = result.replace_schema_metadata(with_kind(result.schema, "documents").metadata)
    return TaskOutput({"": result}, counts, {"samples": samples}, {"clusters": members})
