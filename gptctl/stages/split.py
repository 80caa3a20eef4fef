"""Divide documents into train, val and test: no near-duplicate on two sides, labels stratified, or by group or time."""

from __future__ import annotations

import shlex
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from gptctl.core.config import ReadingOptions, StorageOptions, WorkerOptions, argument, output
from gptctl.core.context import Context
from gptctl.core.errors import DataError, UsageError
from gptctl.core.formatting import format_count, parse_bytes
from gptctl.core.summary import LACKING, Summary, funnel
from gptctl.executors import load_executor
from gptctl.io.dataset.shard_format import ShardFormat
from gptctl.io.input.blocks import ReadOptions
from gptctl.io.input.inputs import Inputs
from gptctl.pipeline import finalize, preview
from gptctl.pipeline.dataset_output import StageResult, open_dataset
from gptctl.pipeline.scratch import scratch_folder
from gptctl.pipeline.shard_pipeline import ShardPipeline
from gptctl.text import segmentation
from gptctl.text.dedup import conflicts
from gptctl.text.dedup.corpus import Corpus
from gptctl.text.dedup.options import MemoryOption
from gptctl.text.dedup.whole_documents import clusters
from gptctl.text.dedup.whole_documents.search import SORTING_BYTES, DocumentSearch
from gptctl.text.dedup.whole_documents.workspace import Workspace
from gptctl.text.dedup.worker_pool import WorkerPool
from gptctl.text.splitting import report
from gptctl.text.splitting.divide import DivideTask
from gptctl.text.splitting.division import Divider
from gptctl.text.splitting.facts import SplitFacts
from gptctl.text.splitting.options import SplitOptions
from gptctl.text.splitting.order import SplitOrder
from gptctl.text.splitting.units import Units, pair_groups

EXAMPLES = (
    "gptctl split clean -o parts",
    "gptctl split labelled/train.jsonl -o parts --stratify label --val 0.1 --test 0.2",
    "gptctl clean raw.jsonl -o - | gptctl split - -o parts --by group:source",
)


class Split(SplitOptions, ReadingOptions, StorageOptions, WorkerOptions, MemoryOption):
    """Divide documents into train, val and test, which tokenize, finetune and eval take as they are.

    Exact and near copies of a document are in the same split. With --stratify, each label has the same share in each
    split, and documents without a label are quarantined. Writes OUT/shards/train, val and test, and a table of
    duplicates with different labels to OUT/conflicts/.
    """

    inputs: tuple[str, ...] = argument(
        ..., "INPUT...", "Files, folders, globs, URIs, a dataset folder, or - for a pipe."
    )
    out: str = output(..., "Folder or URI to write.")

    def facts(self) -> SplitFacts:
        """Return what is read of each document besides its text."""
        return SplitFacts(self.stratify, *self.split_by())

    def order(self) -> SplitOrder:
        """Return the order in which documents fill the splits."""
        return SplitOrder(self.seed, self.split_by().kind == "time", self.stratify is not None)


def check(config: Split) -> None:
    """Raise UsageError (2) for settings that cannot work."""
    if config.out == "-":
        raise UsageError("split writes three splits and cannot write to a pipe", "name a folder with -o")
    config.check()


def plan(config: Split, context: Context) -> Summary:
    """Check the command, OUT and the documents, and return what would be done."""
    check(config)
    inputs, needed = Inputs(config.inputs, ReadOptions.from_config(config)), config.facts()
    preview.check_output(config.out, config, context, inputs)
    columns: list[str] = []
    is_usable = not needed.columns
    for table in preview.read_checked(inputs, config, context):
        columns = columns or table.column_names
        is_usable = is_usable or bool((needed(table)["missing"] == 0).any())
    if columns and not is_usable:
        raise no_value(config, columns)
    facts: dict[str, Any] = {
        "inputs": len(inputs.sources),
        "input_bytes": inputs.total_bytes(),
        "train": round(1 - config.val - config.test, 6),
        "val": config.val,
        "test": config.test,
        "by": config.by,
        "workers": config.worker_count(),
    }
    return Summary("split", "planned", (config.out,), plan=facts)


def run(config: Split, context: Context | None = None) -> Summary:
    """Divide the inputs into a dataset folder."""
    context = context or Context()
    check(config)
    inputs = Inputs(config.inputs, ReadOptions.from_config(config))
    with open_dataset(config.out, "documents", config, context, inputs) as dataset:
        if not dataset.up_to_date:
            assert dataset.folder is not None
            dataset.commit(divide(config, context, inputs, dataset.folder, dataset.storage))
    summary = dataset.summary
    segmentation.tell_shingles(summary.metrics.get("segmenters", {}), context)
    for line in report.warnings(summary.metrics, {"val": config.val, "test": config.test}):
        context.warn(line)
    lacking = {reason: summary.counts.quarantined[reason] for reason in LACKING}
    for reason, number in lacking.items():
        if number:
            have = f"{format_count(number, 'document')} {'has' if number == 1 else 'have'} {reason}"
            context.warn(f"{have}; see {config.out}/quarantine.jsonl")
    if summary.metrics["conflicts"]["clusters"]:
        context.warn(conflicts.warning(summary.metrics["conflicts"], config.facts().label_column, config.out))
    out = shlex.quote(config.out)
    if config.stratify:
        column = shlex.quote(config.stratify)
        context.info(f"to train on the labels: gptctl finetune MODEL {out} -o tuned --label-column {column}")
    tables = (funnel("split", summary.counts), *report.tables(summary.metrics))
    return replace(summary, tables=tables, next=f"gptctl tokenize {out} -o tokens")


def divide(config: Split, context: Context, inputs: Inputs, out: Path, storage: ShardFormat) -> StageResult:
    """Find what stays together, decide the split of each document, and write the shards."""
    options, facts, order = ReadOptions.from_config(config), config.facts(), config.order()
    preload = ("gptctl.stages.split", "gptctl.text.kernels.shingles")
    pool = WorkerPool(load_executor(config), parse_bytes(config.max_memory), context, preload)
    with scratch_folder(out) as scratch:
        corpus = Corpus(options, (), inputs.repeatable_tasks(scratch, config.limit))
        fits_memory = (inputs.total_bytes() or 0) <= pool.max_memory
        workspace = Workspace.create(scratch / "search", cache_documents=fits_memory)
        search = DocumentSearch(config.criteria(), workspace, facts, corpus, pool)
        found = search.find_clusters()
        duplicates = units = Units.read(workspace, *found)
        if facts.kind == "group":
            pairs = chain([found], pair_groups(workspace, pool))
            units = Units.read(workspace, *clusters.connect(pairs, sum(search.task_sizes), pool.max_memory))
        parts = pool.partitions(sum(search.task_sizes), SORTING_BYTES)
        divider = Divider(workspace, units, duplicates, order, config.val, config.test, parts)
        try:
            division = divider.run()
            if not divider.total and any(search.task_sizes):
                raise no_value(config, workspace.cache.read(next(corpus.tasks()), options)[0].column_names)
        except DataError:
            finalize.remove_work_folder(out)  # so that the next command may name other columns
            raise
        task = DivideTask(search.criteria, facts, order, division.cuts)
        pipeline = ShardPipeline(task, options, out, storage, read=workspace.cache.read)
        totals = pipeline.run(division.attach(corpus.tasks()), pool.executor, context)
    return StageResult(totals, report.combine(totals.stats) | division.metrics() | search.metrics)


def no_value(config: Split, columns: list[str]) -> DataError:
    """Return the error for documents none of which has what --stratify and --by need; they have these columns."""
    for name, option in ((config.stratify, "--stratify"), (config.split_by().column, "--by")):
        if name and name not in columns:
            words = f"there is no column '{name}'; it has: {', '.join(columns)}"
            return DataError(words, f"name another with {option}")
    return DataError(f"no document has a value in {' and '.join(config.facts().columns)}", "see gptctl inspect INPUT")
