"""What becomes of each document: packed for the task that it is in, and carried out there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gptctl.core.summary import Counts
from gptctl.io import jobs, stream
from gptctl.io.exchange import of_task
from gptctl.io.jobs import Outcome
from gptctl.io.records import Task
from gptctl.io.schema import with_kind
from gptctl.text.dedup import exact, passes
from gptctl.text.dedup.clusters import ELSEWHERE, Clusters
from gptctl.text.dedup.passes import Search

LARGEST = 5  # clusters shown with a sample
SAMPLE_CHARACTERS = 60


@dataclass(frozen=True)
class Verdicts:
    """What becomes of each document that has a duplicate, task by task."""

    search: Search
    found: Clusters
    first_new: int

    def of(self, number: int) -> bytes:
        """Pack the verdicts on one task's documents, to travel with it."""
        low, high = of_task(number)
        place = self.found.place
        start, stop = np.searchsorted(place, [np.uint64(low), np.uint64(high)])
        part = slice(int(start), int(stop))
        survivor, first = self.found.survivor[part], self.found.first[part]
        elsewhere = survivor == ELSEWHERE
        survivor = np.where(elsewhere, place[part], survivor)
        rows = (place[part] - np.uint64(low)).astype(np.int64)
        facts = {"high": np.empty(0, np.uint64), "id": pa.array([], pa.large_string()), "same": np.empty(0, np.bool_)}
        if len(rows):
            wanted = np.unique(np.concatenate([survivor, first]))
            known = passes.gather(self.search.documents, wanted, ["high", "id"]).combine_chunks()
            facts["same"] = passes.exact_facts(self.search, place[part], survivor)[0]
            facts["high"] = known["high"].to_numpy()[np.searchsorted(wanted, first)]
            facts["id"] = known["id"].take(pa.array(np.searchsorted(wanted, survivor))).combine_chunks()
        table = pa.table(
            {
                "row": rows,
                "cluster": facts["high"],
                "survivor": pc.if_else(pa.array(elsewhere), pa.scalar("", pa.large_string()), facts["id"]),
                "kept": pa.array(self.found.kept[part]),
                "similarity": self.found.similarity[part],
                "same": pa.array(facts["same"]),
                "old": pa.array(elsewhere | (survivor < np.uint64(of_task(self.first_new)[0]))),
                "shown": pa.array([self.largest.get(where, 0) for where in place[part].tolist()], pa.int64()),
            }
        )
        return stream.to_bytes(table)

    @cached_property
    def largest(self) -> dict[int, int]:
        """The first documents of the largest clusters, with how many each cluster has."""
        first, counts = self.found.sizes()
        chosen = np.lexsort((first, -counts))[:LARGEST]
        return dict(zip(first[chosen].tolist(), counts[chosen].tolist(), strict=True))


def keep_survivors(normalized: bool, task: Task, table: pa.Table) -> Outcome:
    """Drop the duplicates of one task, in a worker, and note the clusters they belong to."""
    text = table["text"].combine_chunks()
    verdict = stream.from_bytes(task.note)
    rows = verdict["row"].to_numpy()
    own = (exact.normalized_keys(text) if normalized else exact.keys(text))[:, 0].copy()
    own[rows] = verdict["cluster"].to_numpy()
    cluster = pa.array([f"{value:016x}" for value in own.tolist()], pa.string())
    if "cluster_id" in table.column_names:
        table = table.drop_columns(["cluster_id"])
    table = table.append_column("cluster_id", cluster)
    kept = np.ones(len(table), np.bool_)
    kept[rows] = verdict["kept"].to_numpy(zero_copy_only=False)
    result = table.filter(pa.array(kept))
    sizes = pc.binary_length(text).to_numpy(zero_copy_only=False).astype(np.int64)
    counts = Counts(
        documents_in=len(table), kept=len(result), bytes_in=int(sizes.sum()), bytes_kept=jobs.text_bytes(result)
    )
    same = verdict["same"].to_numpy(zero_copy_only=False)
    how = np.where(same, "exact_duplicate", "near_duplicate").astype(object)
    how[verdict["old"].to_numpy(zero_copy_only=False)] = "in_against"
    how[verdict["kept"].to_numpy(zero_copy_only=False)] = "survivor"
    for reason in ("exact_duplicate", "near_duplicate", "in_against"):
        gone = rows[how == reason]
        if len(gone):
            counts.dropped[reason] = len(gone)
            counts.dropped_bytes[reason] = int(sizes[gone].sum())
    members = pa.table(
        {
            "id": table["id"].take(pa.array(rows)),
            "cluster_id": cluster.take(pa.array(rows)),
            "survivor": verdict["survivor"].cast(pa.string()),
            "similarity": verdict["similarity"],
            "verdict": pa.array(how.tolist(), pa.string()),
        }
    )
    shown = verdict["shown"].to_numpy()
    samples = [
        [members["cluster_id"][row].as_py(), int(shown[row]), excerpt(text[int(rows[row])].as_py())]
        for row in np.flatnonzero(shown).tolist()
    ]
    result = result.replace_schema_metadata(with_kind(result.schema, "documents").metadata)
    return Outcome({"": result}, counts, {"samples": samples}, {"clusters": members})


def excerpt(text: str) -> str:
    """Give the beginning of a text on one line."""
    return " ".join(text[: 4 * SAMPLE_CHARACTERS].split())[:SAMPLE_CHARACTERS]
