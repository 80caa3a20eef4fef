"""Drop exact and near duplicates (MinHash-LSH), keeping one document of each cluster and a table of clusters."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import xxhash
from pydantic import field_validator

from gptctl.core.config import ReadingOptions, SeedOption, WorkerOptions, argument, flag, key, output
from gptctl.core.context import Context
from gptctl.core.errors import UsageError
from gptctl.core.summary import Summary, funnel
from gptctl.executors import load_executor
from gptctl.io.input.blocks import ReadOptions
from gptctl.io.input.inputs import Inputs
from gptctl.io.input.read_task import read_task
from gptctl.pipeline.dataset_output import DatasetOutput, StageResult, open_dataset
from gptctl.pipeline.scratch import scratch_folder
from gptctl.pipeline.shard_pipeline import ShardPipeline
from gptctl.text.dedup import disk_estimate, minhash, report
from gptctl.text.dedup.corpus import Corpus
from gptctl.text.dedup.documents import keep_policy
from gptctl.text.dedup.documents.criteria import Criteria
from gptctl.text.dedup.documents.decisions import Decisions
from gptctl.text.dedup.documents.removal import RemoveDuplicates
from gptctl.text.dedup.documents.search import DocumentSearch
from gptctl.text.dedup.documents.workspace import Workspace
from gptctl.text.dedup.lsh_index.index import LshIndex
from gptctl.text.dedup.lsh_index.search import BAND_BYTES, IndexSearch
from gptctl.text.dedup.minhash import Banding
from gptctl.text.dedup.shingles import Shingling
from gptctl.text.dedup.within_documents import search as repeat_search
from gptctl.text.dedup.within_documents.method import Method
from gptctl.text.dedup.within_documents.removal import RemoveRepeats
from gptctl.text.dedup.worker_pool import WorkerPool

LEAST_MEMORY = 10**6  # to sort in; what is read, hashed and written takes more than that
EXAMPLES = (
    "gptctl dedup clean -o unique",
    "gptctl dedup clean -o unique --method exact --keep longest",
    "gptctl clean raw.jsonl -o - | gptctl dedup - -o unique --threshold 0.7",
)


class Dedup(ReadingOptions, WorkerOptions, SeedOption):
    """Deduplicate documents: exact copies first, then near-duplicates by MinHash-LSH.

    Writes the survivors with a column `cluster_id`, and in OUT/clusters/ which documents belong together. A document
    too short for a shingle is compared exactly. The methods lines, paragraphs and substring take what stands before
    out of documents instead.
    """

    inputs: tuple[str, ...] = argument(
        ..., "INPUT...", "Files, folders, globs, URIs, a dataset folder, or - for a pipe."
    )
    out: str = output(..., "Folder or URI to write, or - for a pipe.")
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
    max_memory: str = flag(
        "1GB", "Memory for sorting and clustering; more is kept on disk.", panel="Runtime", runtime=True
    )
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
        keep_policy.parse(value)
        return value

    @field_validator("max_memory")
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
    """Raise UsageError (2) for settings that exclude each other."""
    uses_index = config.index == "datasketch"
    if uses_index and (config.method != "minhash" or config.keep != "first" or config.against):
        raise UsageError(
            "--index datasketch works with --method minhash and --keep first only, and without --against",
            "leave these out, or use --index sorted",
        )
    if config.redis and not uses_index:
        raise UsageError("redis=URL needs --index datasketch", "add that, or leave the URL out")
    if works_within_documents(config) and config.keep != "first":
        raise UsageError(
            f"--keep {config.keep} chooses among documents, but --method {config.method} works within them",
            "leave out --keep: the first occurrence stays",
        )


def works_within_documents(config: Dedup) -> bool:
    """Return whether the method rewrites documents instead of dropping them."""
    return config.method in ("lines", "paragraphs", "substring")


def plan(config: Dedup, context: Context) -> Summary:
    """Return what would be done, on how much disk and in how many parts."""
    check(config)
    inputs, against = Inputs(config.inputs, ReadOptions.from_config(config)), open_against(config)
    size = inputs.total_bytes()
    facts: dict[str, Any] = {"inputs": len(inputs.sources), "input_bytes": size, "workers": config.worker_count()}
    if against is not None:
        facts |= {"against": len(against.sources), "against_bytes": against.total_bytes()}
        size = None if size is None else size + (against.total_bytes() or 0)
    if config.method == "minhash":
        banding = minhash.choose_banding(config.threshold, config.num_perm, config.bands)
        facts |= {"bands": banding.bands, "rows_per_band": banding.rows}
        facts["candidate_probability"] = {
            f"{similarity:.2f}": round(float(minhash.candidate_probability(similarity, banding)), 4)
            for similarity in (max(0.0, config.threshold - 0.1), config.threshold, min(1.0, config.threshold + 0.1))
        }
    if size is not None:
        facts |= estimate(config, inputs, size, facts.get("bands", 0), worker_pool(config, context))
    return Summary("dedup", "planned", (config.out,), plan=facts)


def estimate(config: Dedup, inputs: Inputs, size: int, bands: int, pool: WorkerPool) -> dict[str, Any]:
    """Estimate from the first shard task what `size` bytes of input take. Return nothing if it has no document."""
    task = next(inputs.tasks(), None)
    table = read_task(task, inputs.options)[0] if task else None
    if task is None or table is None or not len(table):
        return {}
    documents = round(len(table) * size / sum(block.size for block in task.blocks))
    if config.index == "datasketch":
        return {"documents": documents, "index_bytes": documents * bands * BAND_BYTES}
    if works_within_documents(config):
        return disk_estimate.within_documents(table, method_of(config)).scale(documents, pool)
    return disk_estimate.of_documents(table, bands).scale(documents, pool)


def run(config: Dedup, context: Context | None = None) -> Summary:
    """Deduplicate the inputs into a dataset folder, or into a pipe."""
    context = context or Context()
    check(config)
    options, pool = ReadOptions.from_config(config), worker_pool(config, context)
    inputs, against = Inputs(config.inputs, options), open_against(config)
    against_tasks = tuple(against.tasks()) if against else ()
    also = {f"against {name}": value for name, value in ((against.fingerprints() or {}) if against else {}).items()}
    fits_memory = sum(source.total_bytes() or 0 for source in (inputs, against) if source) <= pool.max_memory

    with open_dataset(config.out, "documents", config, context, inputs, also) as dataset:
        if not dataset.up_to_date:
            with scratch_folder(dataset.folder) as scratch:
                corpus = Corpus(options, against_tasks, inputs.repeatable_tasks(scratch, config.limit), config.max_bad)
                if works_within_documents(config):
                    # The result of a task depends on all others, and a stream that is piped again may have other tasks.
                    payload = repr(inputs.stream_fingerprint() | also).encode() if inputs.is_stream else b""
                    result = remove_repeats(config, corpus, scratch / "search", payload, pool, dataset)
                else:
                    workspace = Workspace.create(scratch / "search", cache_documents=fits_memory)
                    name = run_name(config, inputs) if config.redis else ""
                    result = remove_duplicates(config, corpus, workspace, name, pool, dataset)
            dataset.commit(result)
    summary = dataset.summary
    follow = "" if config.out == "-" else f"gptctl tokenize {shlex.quote(config.out)} -o tokens"
    shown = report.tables(config.method, summary.metrics)
    return replace(summary, tables=(funnel("dedup", summary.counts), *shown), next=follow)


def remove_repeats(
    config: Dedup, corpus: Corpus, folder: Path, payload: bytes, pool: WorkerPool, dataset: DatasetOutput
) -> StageResult:
    """Remove repeated text within documents. `payload` becomes part of the key of each task."""
    method, workspace = method_of(config), repeat_search.Workspace(folder)
    metrics = repeat_search.find_repeats(method, workspace, corpus, pool)
    tasks = (replace(task, payload=payload) for task in corpus.input_tasks())
    transform = RemoveRepeats(method, workspace, len(corpus.against))
    pipeline = ShardPipeline(transform, corpus.options, dataset.folder)
    totals = pipeline.run(tasks, pool.executor, pool.context, dataset.pipe)
    return StageResult(totals, metrics | report.repeat_metrics(totals.stats))


def remove_duplicates(
    config: Dedup, corpus: Corpus, workspace: Workspace, run_name: str, pool: WorkerPool, dataset: DatasetOutput
) -> StageResult:
    """Remove duplicate documents. `run_name` names this run in an index that other runs use too."""
    criteria = criteria_of(config)
    if config.index == "datasketch":
        index = LshIndex(
            config.num_perm, criteria.banding, config.redis, config.redis_name,
            signature_settings=f"seed={config.seed} {criteria.shingling}",
        )  # fmt: skip
        clusters, metrics = IndexSearch(index, run_name, criteria, workspace, corpus, pool).run()
    else:
        clusters, metrics = DocumentSearch(criteria, workspace, config.keep, corpus, pool).run()
    decisions = Decisions(workspace, clusters, corpus.input_start, pool.max_memory)
    cache = workspace.cache.after(len(corpus.against))
    pipeline = ShardPipeline(RemoveDuplicates(criteria), corpus.options, dataset.folder, read=cache.read)
    totals = pipeline.run(decisions.attach(corpus.input_tasks()), pool.executor, pool.context, dataset.pipe)
    return StageResult(totals, report.cluster_metrics(clusters, corpus.input_start, totals.stats) | metrics)


def open_against(config: Dedup) -> Inputs | None:
    """Open the documents of --against. Raises UsageError (2) for a pipe."""
    if not config.against:
        return None
    against = Inputs(config.against, ReadOptions.from_config(config))
    if against.is_stream:
        raise UsageError("--against cannot be a pipe", "name a folder or files; the pipe is INPUT")
    return against


def worker_pool(config: Dedup, context: Context) -> WorkerPool:
    """Return the workers that the settings ask for."""
    kernel = {"lines": "units", "paragraphs": "units", "substring": "windows"}.get(config.method, "shingles")
    preload = ("gptctl.stages.dedup", f"gptctl.text.kernels.{kernel}")
    return WorkerPool(load_executor(config), parse_bytes(config.max_memory), context, preload)


def criteria_of(config: Dedup) -> Criteria:
    """Return what makes two documents duplicates."""
    is_minhash = config.method == "minhash"
    return Criteria(
        near_duplicates=is_minhash,
        normalize_exact=config.normalize_exact,
        shingling=Shingling(config.ngram, config.shingle, config.normalize),
        threshold=config.threshold,
        num_perm=config.num_perm,
        banding=minhash.choose_banding(config.threshold, config.num_perm, config.bands)
        if is_minhash
        else Banding(0, 0),
        seed=config.seed,
        verify=config.verify,
    )


def method_of(config: Dedup) -> Method:
    """Return how text within documents is compared."""
    assert config.method in ("lines", "paragraphs", "substring")
    return Method(config.method, config.min_chars, config.min_words, config.fold)


def run_name(config: Dedup, inputs: Inputs) -> str:
    """Name a run by the content of its input, for an index that other runs use too."""
    content = inputs.fingerprints() or inputs.stream_fingerprint()
    return xxhash.xxh3_64_hexdigest(repr((config.text_column, list(content.items()))).encode())
