"""Drop exact and near duplicates (MinHash-LSH), keeping one document of each cluster and a table of clusters."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import field_validator

from gptctl.core import plugins
from gptctl.core.config import DataConfig, argument, flag, key
from gptctl.core.context import Context
from gptctl.core.errors import UsageError
from gptctl.core.summary import Summary, Table, funnel
from gptctl.io import dataset, jobs
from gptctl.io.dataset import Made
from gptctl.io.inputs import Inputs
from gptctl.io.jobs import Job, Runner
from gptctl.io.stream import StreamWriter
from gptctl.text.dedup import minhash, survivors
from gptctl.text.dedup.clusters import Clusters
from gptctl.text.dedup.finder import KEY_BYTES, Finder, Sources
from gptctl.text.dedup.passes import Search
from gptctl.text.dedup.repeats import RemoveRepeats, Repeats
from gptctl.text.dedup.shingles import Shingling
from gptctl.text.dedup.streaming import Index
from gptctl.text.dedup.verdicts import Verdicts, keep_survivors

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
    method: Literal["minhash", "exact", "lines", "paragraphs", "substring"] = flag(
        "minhash", "What counts as a duplicate: documents, or lines, paragraphs and passages within them.",
        panel="Duplicates",
    )  # fmt: skip
    threshold: float = flag(
        0.8, "Jaccard similarity of shingles from which documents are near-duplicates.", panel="Duplicates", gt=0, lt=1
    )
    num_perm: int = flag(128, "MinHash permutations.", panel="Duplicates", ge=8, le=1024)
    ngram: int = flag(5, "Words (or characters) per shingle.", panel="Duplicates", ge=1, le=50)
    verify: bool = flag(True, "Compare candidates exactly before they count.", panel="Duplicates")
    keep: str = flag(
        "first", "Which document survives: first, longest, highest:COLUMN, or priority:SOURCE,SOURCE.",
        panel="Duplicates",
    )  # fmt: skip
    index: Literal["sorted", "datasketch"] = flag(
        "sorted", "sorted: on disk, exact; datasketch: its MinHashLSH, in memory or in Redis (redis=URL).",
        panel="Duplicates",
    )  # fmt: skip
    against: tuple[str, ...] = flag(
        (), "Documents that were there before: what they have goes from INPUT; they stay as they are.",
        panel="Input", runtime=True,
    )  # fmt: skip
    memory: str = flag("1GB", "Memory for sorting and clustering; more is kept on disk.", panel="Runtime", runtime=True)
    redis: str | None = key(None, "Redis that keeps datasketch's index for later runs.", runtime=True)
    redis_name: str = key("documents", "Name of the index in Redis.")
    bands: int | None = key(None, "Bands of the signature; without it datasketch's choice for the threshold.", ge=1)
    shingle: Literal["words", "chars"] = key("words", "What a shingle is made of.")
    normalize: bool = key(True, "Shingles without case and punctuation; exact copies are compared as they are.")
    min_chars: int = key(20, "Shortest line or paragraph that is compared, in characters.", ge=1)
    fold: bool = key(False, "Lines and paragraphs without case, and with all numbers alike.")
    min_words: int = key(50, "Words of a passage that counts as repeated (method substring).", ge=2)
    normalize_exact: bool = key(False, "Exact copies, too, without case, punctuation and white space.")

    @field_validator("keep")
    @classmethod
    def known_policy(cls, value: str) -> str:
        """Refuse an unknown policy."""
        survivors.parse(value)
        return value

    @field_validator("memory")
    @classmethod
    def readable_size(cls, value: str) -> str:
        """Refuse what is no size."""
        parse_bytes(value)
        return value


def parse_bytes(text: str) -> int:
    """Read "500MB", "2GB", "1.5GiB" or a number of bytes. Raises ValueError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?)b?|b)?", text.strip().lower())
    if not match:
        raise ValueError(f"'{text}' is not a size; write for example 500MB or 2GB")
    number, unit, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** (" kmgt".index(unit) if unit else 0))


def plan(config: Dedup, context: Context) -> Summary:
    """Say what would be done."""
    inputs = Inputs(config.inputs, dataset.options(config))
    facts: dict[str, Any] = {
        "inputs": len(inputs.order),
        "input_bytes": inputs.total_bytes(),
        "workers": config.worker_count(),
    }
    if config.method == "minhash":
        bands, rows = minhash.cut(config.threshold, config.num_perm, config.bands)
        facts |= {"bands": bands, "rows_per_band": rows, "bytes_per_document_on_disk": KEY_BYTES * (bands + 1) + 48}
        facts["chance_of_a_candidate"] = {
            f"{similarity:.2f}": round(float(minhash.s_curve(similarity, bands, rows)), 4)
            for similarity in (config.threshold - 0.1, config.threshold, min(1.0, config.threshold + 0.1))
        }
    return Summary("dedup", "planned", (config.out,), plan=facts)


def run(config: Dedup, context: Context | None = None) -> Summary:
    """Deduplicate the inputs into a dataset folder, or into a pipe."""
    context = context or Context()
    reading = dataset.options(config)
    inputs = Inputs(config.inputs, reading)
    before = Inputs(config.against, reading) if config.against else None
    if before is not None and before.is_stream:
        raise UsageError("--against cannot be a pipe", "name a folder or files; the pipe is INPUT")
    streaming = config.index == "datasketch"
    if streaming and (config.method != "minhash" or config.keep != "first" or before is not None):
        raise UsageError(
            "--index datasketch goes with --method minhash, --keep first and without --against",
            "leave these out, or use --index sorted",
        )
    also = {f"against {name}": value for name, value in ((before.fingerprints() or {}) if before else {}).items()}
    runner: Runner = partial(plugins.load("gptctl.runners", config.engine).run, **config.runner_options())

    def make(out: Path | None, pipe: StreamWriter | None) -> Made:
        with jobs.spool_folder(out) as folder:
            sources = Sources(reading, tuple(before.tasks()) if before else (), inputs.replayable(folder, config.limit))
            search = search_of(config, folder / "search")
            memory, workers = parse_bytes(config.memory), config.worker_count()
            finder = Finder(search, config.keep, memory, sources, runner, workers, context)
            if config.method in ("lines", "paragraphs", "substring"):
                repeats = Repeats(search.folder, config.method, config.min_chars, config.min_words, config.fold)
                found_places = finder.find_repeats(repeats)
                removal = Job(RemoveRepeats(repeats, len(sources.old)), reading, out)
                totals = jobs.run(removal, sources.new(), runner, workers, context, pipe)
                return Made(totals, {"repeats": found_places, **sums(totals.figures)})
            found, compared = finder.find_streaming(index_of(config, search)) if streaming else finder.find()
            verdicts = Verdicts(search, found, len(sources.old))
            judged = (replace(task, note=verdicts.of(len(sources.old) + task.index)) for task in sources.new())
            job = Job(partial(keep_survivors, config.normalize_exact), reading, out)
            totals = jobs.run(job, judged, runner, config.worker_count(), context, pipe)
        return Made(totals, figures(found, totals.figures) | compared)

    summary = dataset.produce(config, config.out, context, inputs, "documents", make, also)
    follow = "" if config.out == "-" else f"gptctl tokenize {config.out} -o tokens"
    return replace(summary, tables=(funnel("dedup", summary.counts), *tables(summary.metrics)), next=follow)


def search_of(config: Dedup, folder: Path) -> Search:
    """Turn the settings into those of the search."""
    near = config.method == "minhash"
    cut = minhash.cut(config.threshold, config.num_perm, config.bands) if near else (0, 0)
    how = Shingling(config.ngram, config.shingle, config.normalize)
    return Search(
        folder, near, config.normalize_exact, how, config.threshold, config.num_perm, cut, config.seed, config.verify
    )


def index_of(config: Dedup, search: Search) -> Index:
    """Open datasketch's index."""
    made_with = f"seed={config.seed} {search.how}"
    return Index(config.num_perm, *search.cut, config.redis, config.redis_name, made_with)


def sums(parts: list[dict[str, int]]) -> dict[str, int]:
    """Add up what the tasks removed."""
    total = Counter[str]()
    for part in parts:
        total.update(part)
    return dict(sorted(total.items()))


def figures(found: Clusters, parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Count clusters by size, and show the largest."""
    _, members = found.sizes()
    sizes, counts = np.unique(members, return_counts=True)
    samples = [sample for part in parts for sample in part["samples"]]
    return {
        "clusters": {str(size): int(count) for size, count in zip(sizes, counts, strict=True)},
        "largest": sorted(samples, key=lambda sample: (-sample[1], sample[0])),
    }


def tables(metrics: dict[str, Any]) -> Iterator[Table]:
    """Show the clusters by size, and samples of the largest."""
    sizes = Counter[str]()
    for size, count in metrics.get("clusters", {}).items():
        low = 2 ** int(math.log2(int(size)))
        sizes[str(low) if low < 4 else f"{low} to {2 * low - 1}"] += count
    if not sizes:
        return
    yield Table(
        "clusters of duplicates", ("documents in a cluster", "clusters"),
        tuple((size, f"{count:,}") for size, count in sizes.items()),
    )  # fmt: skip
    largest = tuple((cluster, f"{count:,}", text) for cluster, count, text in metrics.get("largest", []))
    yield Table("largest clusters", ("cluster", "documents", "the first begins"), largest)
