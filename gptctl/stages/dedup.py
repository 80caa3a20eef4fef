"""Drop exact and near duplicates (MinHash-LSH), keeping one document of each cluster and a table of clusters."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow.compute as pc
import xxhash
from pydantic import field_validator

from gptctl.core import plugins
from gptctl.core.config import DataConfig, argument, flag, key
from gptctl.core.context import Context
from gptctl.core.errors import UsageError
from gptctl.core.summary import Summary, funnel
from gptctl.io.dataset.stream import StreamWriter
from gptctl.io.input.inputs import Inputs, read_task
from gptctl.pipeline import execution, stage_output
from gptctl.pipeline.document_cache import DocumentCache
from gptctl.pipeline.execution import Executor, ShardPipeline
from gptctl.pipeline.stage_output import StageResult
from gptctl.text.dedup import finder, index_search, minhash, repeats, report, survivors
from gptctl.text.dedup.decisions import Verdicts, keep_survivors
from gptctl.text.dedup.finder import DOCUMENT_BYTES, KEY_BYTES, Finder
from gptctl.text.dedup.passes import Search
from gptctl.text.dedup.repeats import RemoveRepeats, Repeats
from gptctl.text.dedup.shingles import Shingling
from gptctl.text.dedup.streaming import Index
from gptctl.text.dedup.worker_pool import Crew, Sources

LEAST_MEMORY = 10**6  # to sort in; what is read, hashed and written takes more than that
EXAMPLES = (
    "gptctl dedup clean -o unique",
    "gptctl dedup clean -o unique --method exact --keep longest",
    "gptctl clean raw.jsonl -o - | gptctl dedup - -o unique --threshold 0.7",
)


class Dedup(DataConfig):
    """Deduplicate documents: exact copies first, then near-duplicates by MinHash-LSH.

    Writes the survivors with a column `cluster_id`, and in OUT/clusters/ which documents belong together. A document
    too short for a shingle is compared exactly. The methods lines, paragraphs and substring take what stands before
    out of documents instead.
    """

    inputs: tuple[str, ...] = argument(
        ..., "INPUT...", "Files, folders, globs, URIs, a dataset folder, or - for a pipe."
    )
    out: str = flag(..., "Folder or URI to write, or - for a pipe.", panel="Output", short="-o", runtime=True)
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
        panel="Input", runtime=True, reads=True,
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
    size = int(float(number) * (1024 if binary else 1000) ** (" kmgt".index(unit) if unit else 0))
    if size < LEAST_MEMORY:
        raise ValueError(f"{text} is too little; give 1MB or more")
    return size


def check(config: Dedup) -> None:
    """Refuse what does not go together. Raises UsageError (2)."""
    streaming = config.index == "datasketch"
    if streaming and (config.method != "minhash" or config.keep != "first" or config.against):
        raise UsageError(
            "--index datasketch goes with --method minhash, --keep first and without --against",
            "leave these out, or use --index sorted",
        )
    if config.redis and not streaming:
        raise UsageError("redis=URL goes with --index datasketch", "add that, or leave the URL out")
    if within_documents(config) and config.keep != "first":
        raise UsageError(
            f"--keep {config.keep} chooses among documents, but --method {config.method} works within them",
            "leave out --keep: what stands first stays",
        )


def within_documents(config: Dedup) -> bool:
    """Tell the methods that rewrite documents from those that drop them."""
    return config.method in ("lines", "paragraphs", "substring")


def plan(config: Dedup, context: Context) -> Summary:
    """Say what would be done, on how much disk and in how many parts."""
    check(config)
    inputs, before = Inputs(config.inputs, stage_output.options(config)), earlier(config)
    size = inputs.total_bytes()
    facts: dict[str, Any] = {"inputs": len(inputs.order), "input_bytes": size, "workers": config.worker_count()}
    if before is not None:
        facts |= {"against": len(before.order), "against_bytes": before.total_bytes()}
        size = None if size is None else size + (before.total_bytes() or 0)
    if config.method == "minhash":
        bands, rows = minhash.cut(config.threshold, config.num_perm, config.bands)
        facts |= {"bands": bands, "rows_per_band": rows}
        facts["chance_of_a_candidate"] = {
            f"{similarity:.2f}": round(float(minhash.s_curve(similarity, bands, rows)), 4)
            for similarity in (max(0.0, config.threshold - 0.1), config.threshold, min(1.0, config.threshold + 0.1))
        }
    if size is not None:
        facts |= forecast(config, inputs, size, crew_of(config, context))
    return Summary("dedup", "planned", (config.out,), plan=facts)


def forecast(config: Dedup, inputs: Inputs, size: int, crew: Crew) -> dict[str, Any]:
    """Foretell from the first shard task what `size` bytes of input take; nothing where it holds no document."""
    task = next(inputs.tasks(), None)
    table = read_task(task, inputs.options)[0] if task else None
    if task is None or table is None or not len(table):
        return {}
    documents = round(len(table) * size / sum(block.size for block in task.blocks))
    bands = minhash.cut(config.threshold, config.num_perm, config.bands)[0] if config.method == "minhash" else 0
    if config.index == "datasketch":
        return {"documents": documents, "index_bytes": documents * bands * index_search.BAND_BYTES}
    if within_documents(config):
        keys = len(repeats_of(config, Path()).keys_of(table["text"].combine_chunks())[0]) / len(table)
        disk, sorting = KEY_BYTES * keys, repeats.SORTING_BYTES
    else:
        keys = 1.0 + bands
        names = pc.sum(pc.binary_length(table["id"])).as_py() / len(table)
        disk, sorting = KEY_BYTES * keys + DOCUMENT_BYTES + names, finder.SORTING_BYTES
    return {
        "documents": documents,
        "bytes_per_document_on_disk": round(disk),
        "disk_bytes": round(documents * disk),
        "sort_ranges": crew.parts(round(documents * keys), sorting),
    }


def run(config: Dedup, context: Context | None = None) -> Summary:
    """Deduplicate the inputs into a dataset folder, or into a pipe."""
    context = context or Context()
    check(config)
    reading = stage_output.options(config)
    inputs, before = Inputs(config.inputs, reading), earlier(config)
    old = tuple(before.tasks()) if before else ()
    also = {f"against {name}": value for name, value in ((before.fingerprints() or {}) if before else {}).items()}
    crew = crew_of(config, context)

    def make(out: Path | None, pipe: StreamWriter | None) -> StageResult:
        with execution.scratch_folder(out) as folder:
            sources = Sources(reading, old, inputs.replayable(folder, config.limit), config.max_bad)
            small = sum(one.total_bytes() or 0 for one in (inputs, before) if one) <= crew.memory
            search = search_of(config, folder / "search", keep=small)
            if within_documents(config):
                how = repeats_of(config, search.folder)
                found_places = repeats.find(how, sources, crew)
                pipeline = ShardPipeline(RemoveRepeats(how, len(old)), reading, out)
                # What goes from a task depends on all others, which a stream that is piped again may not have.
                noted = repr(inputs.stream_fingerprint() | also).encode() if inputs.is_stream else b""
                tasks = (replace(task, note=noted) for task in sources.new())
                totals = execution.run(pipeline, tasks, crew.executor, crew.workers, context, pipe)
                return StageResult(totals, found_places | report.of_repeats(totals.figures))
            if config.index == "datasketch":
                index = index_of(config, search)
                found, figures = index_search.find(index, name_of(config, inputs), search, sources, crew)
            else:
                found, figures = Finder(search, config.keep, sources, crew).find()
            judged = Verdicts(search, found, sources.first_new, crew.memory).noted(sources.new())
            kept = search.kept.after(len(old))
            pipeline = ShardPipeline(partial(keep_survivors, config.normalize_exact), reading, out, read=kept.read)
            totals = execution.run(pipeline, judged, crew.executor, crew.workers, context, pipe)
        return StageResult(totals, report.of_clusters(found, sources.first_new, totals.figures) | figures)

    summary = stage_output.produce(config, config.out, context, inputs, "documents", make, also)
    follow = "" if config.out == "-" else f"gptctl tokenize {shlex.quote(config.out)} -o tokens"
    shown = report.tables(config.method, summary.metrics)
    return replace(summary, tables=(funnel("dedup", summary.counts), *shown), next=follow)


def earlier(config: Dedup) -> Inputs | None:
    """Open what was there before. Raises UsageError (2) for a pipe."""
    if not config.against:
        return None
    before = Inputs(config.against, stage_output.options(config))
    if before.is_stream:
        raise UsageError("--against cannot be a pipe", "name a folder or files; the pipe is INPUT")
    return before


def crew_of(config: Dedup, context: Context) -> Crew:
    """Say who does the work."""
    executor: Executor = partial(plugins.load("gptctl.executors", config.engine).run, **config.executor_options())
    kernels = "spans" if within_documents(config) else "shingles"
    preload = ("gptctl.stages.dedup", f"gptctl.text.kernels.{kernels}")
    return Crew(executor, config.worker_count(), parse_bytes(config.memory), context, preload)


def search_of(config: Dedup, folder: Path, keep: bool = False) -> Search:
    """Turn the settings into those of the search for documents, which may keep what it has read for later passes."""
    near = config.method == "minhash"
    cut = minhash.cut(config.threshold, config.num_perm, config.bands) if near else (0, 0)
    how = Shingling(config.ngram, config.shingle, config.normalize)
    return Search(
        folder, near, config.normalize_exact, how, config.threshold, config.num_perm, cut, config.seed, config.verify,
        DocumentCache(folder / "kept" if keep else None),
    )  # fmt: skip


def repeats_of(config: Dedup, folder: Path) -> Repeats:
    """Turn the settings into those of the search within documents."""
    assert config.method in ("lines", "paragraphs", "substring")
    return Repeats(folder, config.method, config.min_chars, config.min_words, config.fold)


def index_of(config: Dedup, search: Search) -> Index:
    """Open datasketch's index."""
    made_with = f"seed={config.seed} {search.how}"
    return Index(config.num_perm, *search.cut, config.redis, config.redis_name, made_with)


def name_of(config: Dedup, inputs: Inputs) -> str:
    """Name an input that was read by its content, for an index that other runs use, too."""
    if not config.redis:
        return ""
    content = inputs.fingerprints() or inputs.stream_fingerprint()
    return xxhash.xxh3_64_hexdigest(repr((config.text_column, list(content.items()))).encode())
