"""Drop exact and near duplicates (MinHash-LSH), keeping one document of each cluster and a table of clusters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gptctl.core import plugins
from gptctl.core.config import DataConfig, argument, flag
from gptctl.core.context import Context
from gptctl.core.summary import Counts, Summary, Table, funnel
from gptctl.io import dataset, jobs, stream
from gptctl.io.dataset import Made
from gptctl.io.inputs import Inputs, read_task
from gptctl.io.jobs import Job, Outcome, Runner
from gptctl.io.records import ReadOptions, Task
from gptctl.io.schema import with_kind
from gptctl.io.stream import StreamWriter
from gptctl.text.dedup import components, exact, minhash, survivors

EXAMPLES = (
    "gptctl dedup clean -o unique",
    "gptctl dedup clean -o unique --method exact --keep longest",
    "gptctl clean raw.jsonl -o - | gptctl dedup - -o unique --threshold 0.7",
)


class Dedup(DataConfig):
    """Deduplicate documents: exact copies first, then near-duplicates by MinHash-LSH.

    Writes the survivors with a column `cluster_id`, and in OUT/clusters/ which documents belong together. A document
    too short for a shingle is compared exactly.
    """

    inputs: tuple[str, ...] = argument(
        ..., "INPUT...", "Files, folders, globs, URIs, a dataset folder, or - for a pipe."
    )
    out: str = flag(..., "Folder to write, or - for a pipe.", panel="Output", short="-o", runtime=True)
    method: Literal["minhash", "exact"] = flag("minhash", "What counts as a duplicate.", panel="Duplicates")
    threshold: float = flag(
        0.8, "Jaccard similarity of shingles from which documents are near-duplicates.", panel="Duplicates", gt=0, lt=1
    )
    num_perm: int = flag(128, "MinHash permutations.", panel="Duplicates", ge=8, le=1024)
    ngram: int = flag(5, "Words per shingle.", panel="Duplicates", ge=1, le=50)
    keep: Literal["first", "longest"] = flag("first", "Which document of a cluster survives.", panel="Duplicates")


@dataclass
class Signatures:
    """What the first pass learns of one task's documents: 16 bytes each, and 8 a band."""

    exact: npt.NDArray[np.uint64]
    bands: npt.NDArray[np.uint64]
    lengths: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Verdict:
    """What the second pass needs: for each document of the input, in order."""

    cluster: npt.NDArray[np.uint64]
    kept: npt.NDArray[np.bool_]
    exact_copy: npt.NDArray[np.bool_]
    clustered: npt.NDArray[np.bool_]

    def part(self, start: int, stop: int) -> bytes:
        """Pack the verdict on a range of documents, to travel with a task."""
        columns = {field.name: pa.array(getattr(self, field.name)[start:stop]) for field in fields(self)}
        return stream.to_bytes(pa.table(columns))

    @classmethod
    def unpack(cls, data: bytes) -> Verdict:
        """Undo `part`."""
        table = stream.from_bytes(data)
        return cls(*(table[field.name].to_numpy() for field in fields(cls)))


def sign(config: Dedup, reading: ReadOptions, task: Task) -> Signatures:
    """Hash one task's documents, in a worker."""
    text = read_task(task, reading)[0]["text"].combine_chunks()
    bands = np.empty((len(text), 0), np.uint64)
    if config.method == "minhash":
        cut = minhash.bands(config.threshold, config.num_perm)
        bands = minhash.document_keys(text, config.num_perm, config.ngram, config.seed, *cut)
    return Signatures(exact.keys(text), bands, pc.binary_length(text).to_numpy(zero_copy_only=False).astype(np.int64))


def judge(signatures: list[Signatures], keep: Literal["first", "longest"]) -> Verdict:
    """Join documents that share an exact key or a band, and choose who survives."""
    keys = np.concatenate([part.exact for part in signatures])
    bands = np.concatenate([part.bands for part in signatures])
    lengths = np.concatenate([part.lengths for part in signatures])
    same_text = components.stars(keys[:, :1] ^ keys[:, 1:] * np.uint64(0x9E3779B97F4A7C15))
    near = components.stars(bands)
    labels = components.components(len(keys), np.concatenate([same_text, near]))
    kept = survivors.choose(labels, lengths, keep)
    survivor_of = np.full(len(keys), -1, np.int64)
    survivor_of[labels[kept]] = np.flatnonzero(kept)
    exact_copy = ~kept & (keys == keys[survivor_of[labels]]).all(axis=1)
    clustered = np.bincount(labels, minlength=len(labels))[labels] > 1
    return Verdict(keys[labels, 0], kept, exact_copy, clustered)


def keep_survivors(task: Task, table: pa.Table) -> Outcome:
    """Drop the duplicates of one task, in a worker, and note the clusters they belong to."""
    verdict = Verdict.unpack(task.note)
    cluster = pa.array([f"{value:016x}" for value in verdict.cluster.tolist()], pa.string())
    if "cluster_id" in table.column_names:
        table = table.drop_columns(["cluster_id"])
    table = table.append_column("cluster_id", cluster)
    kept, copies = pa.array(verdict.kept), verdict.exact_copy
    result = table.filter(kept)
    sizes = pc.binary_length(table["text"]).to_numpy().astype(np.int64)
    counts = Counts(
        documents_in=len(table), kept=len(result), bytes_in=int(sizes.sum()), bytes_kept=jobs.text_bytes(result)
    )
    for reason, mask in (("exact_duplicate", copies), ("near_duplicate", ~verdict.kept & ~copies)):
        if mask.any():
            counts.dropped[reason] = int(mask.sum())
            counts.dropped_bytes[reason] = int(sizes[mask].sum())
    how = np.where(verdict.kept, "survivor", np.where(copies, "exact_duplicate", "near_duplicate"))
    clusters = pa.table({"id": table["id"], "cluster_id": cluster, "verdict": pa.array(how, pa.string())}).filter(
        pa.array(verdict.clustered)
    )
    schema = with_kind(result.schema, "documents")
    return Outcome(
        {"": result.replace_schema_metadata(schema.metadata)},
        counts,
        {"clusters": clusters.num_rows},
        {"clusters": clusters},
    )


def plan(config: Dedup, context: Context) -> Summary:
    """Say what would be done."""
    inputs = Inputs(config.inputs, dataset.options(config))
    facts: dict[str, Any] = {
        "inputs": len(inputs.order),
        "input_bytes": inputs.total_bytes(),
        "workers": config.worker_count(),
    }
    if config.method == "minhash":
        bands, rows = minhash.bands(config.threshold, config.num_perm)
        facts |= {"bands": bands, "rows_per_band": rows, "bytes_per_document_in_memory": 24 + 8 * bands}
    return Summary("dedup", "planned", (config.out,), plan=facts)


def run(config: Dedup, context: Context | None = None) -> Summary:
    """Deduplicate the inputs into a dataset folder, or into a pipe."""
    context = context or Context()
    reading = dataset.options(config)
    inputs = Inputs(config.inputs, reading)
    runner: Runner = plugins.load("gptctl.runners", config.engine).run

    def make(out: Path | None, pipe: StreamWriter | None) -> Made:
        with jobs.spool_folder(out) as folder:
            tasks = inputs.replayable(folder, config.limit)
            verdicts, clusters = first_pass(config, reading, tasks, runner, context)
            judged = (replace(task, note=verdicts[task.index]) for task in tasks())
            totals = jobs.run(Job(keep_survivors, reading, out), judged, runner, config.worker_count(), context, pipe)
        return Made(totals, {"clusters": clusters})

    summary = dataset.produce(config, config.out, context, inputs, "documents", make)
    sizes = summary.metrics.get("clusters", {})
    table = Table(
        "clusters of duplicates",
        ("documents in a cluster", "clusters"),
        tuple((size, f"{count:,}") for size, count in sizes.items()),
    )
    follow = "" if config.out == "-" else f"gptctl tokenize {config.out} -o tokens"
    return replace(summary, tables=(funnel("dedup", summary.counts), *([table] if sizes else [])), next=follow)


def first_pass(
    config: Dedup, reading: ReadOptions, tasks: Callable[[], Iterator[Task]], runner: Runner, context: Context
) -> tuple[list[bytes], dict[str, int]]:
    """Hash all documents and decide on each; also count the clusters by size."""
    signatures: list[Signatures] = []
    for part in runner(partial(sign, config, reading), tasks(), config.worker_count()):
        signatures.append(part)
        context.progress(len(signatures), None, "shards hashed")
        context.stop.check("stopped")
    if not signatures:
        return [], {}
    verdict = judge(signatures, config.keep)
    ends = np.cumsum([len(part.lengths) for part in signatures]).tolist()
    verdicts = [verdict.part(start, stop) for start, stop in zip([0, *ends], ends, strict=False)]
    _, members = np.unique(verdict.cluster[verdict.clustered], return_counts=True)
    sizes, counts = np.unique(members, return_counts=True)
    return verdicts, {str(size): int(count) for size, count in zip(sizes, counts, strict=True)}
