"""Drop exact and near duplicates (MinHash-LSH), keeping one document of each cluster and a table of clusters."""

from __future__ import annotations

import shlex
from dataclasses import replace
from functools import partial
from typing import Any

import xxhash

from gptctl.core.config import ReadingOptions, SeedOption, StorageOptions, WorkerOptions, argument, flag, output
from gptctl.core.context import Context
from gptctl.core.formatting import parse_bytes
from gptctl.core.summary import Summary, funnel
from gptctl.executors import load_executor
from gptctl.io.input.blocks import ReadOptions, Tolerance
from gptctl.io.input.inputs import Inputs
from gptctl.io.input.read_task import read_task
from gptctl.io.input.text_columns import open_inputs
from gptctl.pipeline import preview
from gptctl.pipeline.dataset_output import open_dataset
from gptctl.pipeline.scratch import ScratchOptions, scratch_folder
from gptctl.text import segmentation
from gptctl.text.dedup import conflicts, disk_estimate, minhash, report
from gptctl.text.dedup.against import against_tasks, check_documents, fingerprints, open_documents
from gptctl.text.dedup.corpus import Corpus
from gptctl.text.dedup.lsh_index.index import LshIndex
from gptctl.text.dedup.lsh_index.search import BAND_BYTES, IndexSearch
from gptctl.text.dedup.options import DuplicateOptions, MemoryOption
from gptctl.text.dedup.repeated_text.search import RepeatSearch
from gptctl.text.dedup.repeated_text.search import Workspace as RepeatWorkspace
from gptctl.text.dedup.repeated_text.write import write_without_repeats
from gptctl.text.dedup.whole_documents import keep_policy
from gptctl.text.dedup.whole_documents.search import DocumentSearch
from gptctl.text.dedup.whole_documents.workspace import Workspace
from gptctl.text.dedup.whole_documents.write import Search, write_without_duplicates
from gptctl.text.dedup.worker_pool import WorkerPool

EXAMPLES = (
    "gptctl dedup clean -o unique",
    "gptctl dedup clean -o unique --method exact --keep longest",
    "gptctl clean raw.jsonl -o - | gptctl dedup - -o unique --threshold 0.7",
)


class Dedup(DuplicateOptions, ReadingOptions, StorageOptions, ScratchOptions, WorkerOptions, SeedOption, MemoryOption):
    """Deduplicate documents: exact copies first, then near-duplicates by MinHash-LSH.

    Writes the documents that are kept, with a column `cluster_id`, and a table of all duplicates to OUT/clusters/. A
    document too short for a shingle is compared exactly. The methods lines, paragraphs and substring cut out of
    documents what occurred earlier anywhere in the input.
    """

    inputs: tuple[str, ...] = argument(
        ..., "INPUT...", "Files, folders, globs, URIs, a dataset folder, or - for a pipe."
    )
    out: str = output(..., "Folder or URI to write, or - for a pipe.")
    against: tuple[str, ...] = flag(
        (), "Earlier documents: drop INPUT documents that duplicate these. They are not changed.",
        panel="Input", runtime=True, reads=True,
    )  # fmt: skip


def plan(config: Dedup, context: Context) -> Summary:
    """Return what would be done, on how much disk and in how many parts."""
    config.check(bool(config.against))
    inputs, against = open_inputs(config.inputs, ReadOptions.from_config(config)), open_against(config)
    preview.check_output(config.out, config, context, inputs, fingerprints(against))
    for _ in preview.read_checked(inputs, config, context):
        pass
    size = inputs.total_bytes()
    facts: dict[str, Any] = {"inputs": len(inputs.sources), "input_bytes": size, "workers": config.worker_count()}
    warn_of_sources(config, inputs, context)
    if against is not None:
        check_documents(against, Tolerance.from_config(config), context)
        facts |= {"against": len(against.sources), "against_bytes": against.total_bytes()}
        size = None if size is None else size + (against.total_bytes() or 0)
    if config.method == "minhash":
        banding = config.banding()
        facts |= {"bands": banding.bands, "rows_per_band": banding.rows}
        facts["candidate_probability"] = {
            f"{similarity:.2f}": round(float(minhash.candidate_probability(similarity, banding)), 4)
            for similarity in (max(0.0, config.threshold - 0.1), config.threshold, min(1.0, config.threshold + 0.1))
        }
    if size is not None:
        facts |= estimate(config, inputs, size, facts.get("bands", 0), worker_pool(config, context))
    return Summary("dedup", "planned", (config.out,), plan=facts)


def warn_of_sources(config: Dedup, inputs: Inputs, context: Context) -> None:
    """Warn before anything is read if --keep names a source that no file is named after."""
    files = [file.name for file in inputs.files]
    if files and not inputs.datasets and (unnamed := keep_policy.without_files(config.keep, files)):
        context.warn(f"no file is from {' or '.join(unnamed)}: unless a column source names it, the command will fail")


def estimate(config: Dedup, inputs: Inputs, size: int, bands: int, pool: WorkerPool) -> dict[str, Any]:
    """Estimate from the first shard task what `size` bytes of input take. Return nothing if it has no document."""
    task = next(inputs.tasks(), None)
    table = read_task(task, inputs.options)[0] if task else None
    if task is None or table is None or not len(table):
        return {}
    documents = round(len(table) * size / sum(block.size for block in task.blocks))
    if config.index == "datasketch":
        return {"documents": documents, "index_bytes": documents * bands * BAND_BYTES}
    if config.removes_repeated_text:
        return disk_estimate.repeated_text(table, config.text_method()).scale(documents, pool)
    return disk_estimate.of_documents(table, bands).scale(documents, pool)


def run(config: Dedup, context: Context | None = None) -> Summary:
    """Deduplicate the inputs into a dataset folder, or into a pipe."""
    context = context or Context()
    config.check(bool(config.against))
    options, pool = ReadOptions.from_config(config), worker_pool(config, context)
    inputs, against = open_inputs(config.inputs, options), open_against(config)
    also = partial(fingerprints, against)
    earlier = against_tasks(against, context.info) if against else ()
    fits_memory = sum(source.total_bytes() or 0 for source in (inputs, against) if source) <= pool.max_memory

    with open_dataset(config.out, "documents", config, context, inputs, also) as dataset:
        if not dataset.up_to_date:
            warn_of_sources(config, inputs, context)
            with scratch_folder(dataset.folder, config.tmp) as scratch:
                tasks, tolerance = inputs.repeatable_tasks(scratch, config.limit), Tolerance.from_config(config)
                corpus = Corpus(options, earlier, tasks, tolerance)
                if config.removes_repeated_text:
                    payload = repr(inputs.stream_fingerprint() | also()).encode() if inputs.is_stream else b""
                    repeats = RepeatSearch(config.text_method(), RepeatWorkspace(scratch / "search"), corpus, pool)
                    result = write_without_repeats(repeats, payload, dataset)
                else:
                    workspace = Workspace.create(scratch / "search", cache_documents=fits_memory)
                    search = search_of(config, inputs, workspace, corpus, pool)
                    needs_labels = "label_column" in config.model_fields_set
                    result = write_without_duplicates(search, dataset, config.label_column, needs_labels)
            dataset.commit(result)
    summary = dataset.summary
    segmentation.tell_shingles(summary.metrics.get("segmenters", {}), context)
    for line in report.describe_missing(summary.counts, summary.metrics, bool(config.against)):
        context.info(line)
    follow = "" if config.out == "-" else f"gptctl tokenize {shlex.quote(config.out)} -o tokens"
    if 1 < summary.metrics.get("labels", 0) < conflicts.MOST_LABELS and config.out != "-":
        labels = shlex.quote(config.label_column)
        follow = f"gptctl split {shlex.quote(config.out)} -o parts --stratify {labels}"
    if (found := summary.metrics.get("conflicts")) and found["clusters"]:
        context.warn(conflicts.warning(found, config.label_column, config.out))
    shown = report.tables(config.method, summary.metrics)
    return replace(summary, tables=(funnel("dedup", summary.counts), *shown)).followed_by(follow)


def search_of(config: Dedup, inputs: Inputs, workspace: Workspace, corpus: Corpus, pool: WorkerPool) -> Search:
    """Return the search for duplicate documents that the settings ask for."""
    criteria = config.criteria(config.seed)
    if config.index == "sorted":
        return DocumentSearch(criteria, workspace, config.facts(), corpus, pool, config.keep)
    return IndexSearch(open_index(config), run_name(config, inputs), criteria, workspace, config.facts(), corpus, pool)


def open_against(config: Dedup) -> Inputs | None:
    """Open the documents of --against, if there are any."""
    return open_documents(config.against, ReadOptions.from_config(config)) if config.against else None


def worker_pool(config: Dedup, context: Context) -> WorkerPool:
    """Return the workers that the settings ask for."""
    kernel = {"lines": "units", "paragraphs": "units", "substring": "windows"}.get(config.method, "shingles")
    preload = ("gptctl.stages.dedup", f"gptctl.text.kernels.{kernel}")
    return WorkerPool(load_executor(config), parse_bytes(config.max_memory), context, preload)


def open_index(config: Dedup) -> LshIndex:
    """Open datasketch's index, in memory or in Redis."""
    criteria = config.criteria(config.seed)
    signature_settings = f"seed={config.seed} {criteria.shingling}"
    return LshIndex(config.num_perm, criteria.banding, config.redis, config.redis_name, signature_settings)


def run_name(config: Dedup, inputs: Inputs) -> str:
    """Name a run by the content of its input, for an index in Redis that other runs use too."""
    if not config.redis:
        return ""
    content = inputs.fingerprints() or inputs.stream_fingerprint()
    return xxhash.xxh3_64_hexdigest(repr((config.text_column, list(content.items()))).encode())
