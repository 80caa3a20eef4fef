"""Clean documents: repair Unicode, extract text from HTML, and drop documents by filters with counted reasons."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import create_model

from gptctl.core.config import StorageOptions, WorkerOptions, argument, flag, output
from gptctl.core.context import Context
from gptctl.core.errors import UsageError
from gptctl.core.summary import Summary, Table, funnel
from gptctl.executors import load_executor
from gptctl.io.input.blocks import ReadOptions, ShardTask
from gptctl.io.input.inputs import Inputs
from gptctl.io.input.text_columns import open_inputs
from gptctl.pipeline import preview
from gptctl.pipeline.dataset_output import DatasetOutput, StageResult, open_dataset
from gptctl.pipeline.scratch import ScratchOptions, scratch_folder
from gptctl.pipeline.shard_pipeline import ShardPipeline
from gptctl.text import segmentation
from gptctl.text.cleaning import findings
from gptctl.text.cleaning.best_share import ScoreTask, find_cutoff, wanted_share, with_cutoff, with_sampled_cutoff
from gptctl.text.cleaning.clean_task import CleanTask
from gptctl.text.cleaning.explanation import explain_document
from gptctl.text.cleaning.options import CleaningOptions, filter_fields
from gptctl.text.cleaning.sampling import estimate_counts, train_punkt
from gptctl.text.words import describe_splitter

EXAMPLES = (
    "gptctl clean raw.jsonl -o clean",
    "gptctl clean pages/ -o clean --html always --keep-rejects",
    "gptctl clean raw.jsonl --preset web --explain d7",
)

# Workers import these when they start: this config, and numba, which takes longer to load than most tasks run.
KERNELS = ("gptctl.text.kernels.words",)


class CleanKeys(CleaningOptions, StorageOptions, ScratchOptions, WorkerOptions):
    """Clean documents: repair broken Unicode, extract text from HTML, normalize white space, and apply filters.

    Reads txt, md, html, json, jsonl, csv, parquet, arrow and warc files, also compressed ones. Records that cannot be
    read are listed in quarantine.jsonl.
    """

    inputs: tuple[str, ...] = argument(
        ..., "INPUT...", "Files, folders, globs, URIs, a dataset folder, or - for a pipe."
    )
    out: str | None = output(None, "Folder or URI to write, or - for a pipe.")
    keep_rejects: bool = flag(False, "Write dropped documents with their reasons to OUT/rejects/.", panel="Output")
    explain: str | None = flag(
        None,
        "Show what each rule measures in the document with this id. Nothing is written.",
        metavar="ID",
        panel="Output",
        runtime=True,
    )


if TYPE_CHECKING:
    Clean = CleanKeys
else:
    Clean = create_model("Clean", __base__=CleanKeys, __module__=__name__, __doc__=CleanKeys.__doc__, **filter_fields())


def plan(config: Clean, context: Context) -> Summary:
    """Describe what would be done, and clean a sample to estimate the counts."""
    if config.explain is not None:
        return explain(config, config.explain, context)
    out = destination(config)
    inputs = open_inputs(config.inputs, ReadOptions.from_config(config))
    preview.check_output(out, config, context, inputs, other_fingerprints(config))
    check(config, context)
    planned: dict[str, Any] = {
        "inputs": len(inputs.sources),
        "input_bytes": inputs.total_bytes(),
        "filters": [configured.name for configured in config.filter_chain()],
        "workers": config.worker_count(),
    }
    if inputs.is_stream:
        return Summary("clean", "planned", (out,), plan=planned)
    task = CleanTask(with_sampled_cutoff(config, partial(inputs.tasks, config.limit)))
    counts, metrics, totals = estimate_counts(task, preview.read_spread(inputs, config.limit), context)
    preview.check_totals(totals, config, context)
    findings.check_urls(config, metrics, config.inputs, ReadOptions.from_config(config))
    planned["sample"] = counts.to_json()
    planned["kept_share"] = round(counts.kept / counts.documents_in, 4) if counts.documents_in else None
    table = funnel("estimated from a sample", counts)
    warnings = tuple(findings.describe_languages(config, counts, metrics))
    return Summary("clean", "planned", (out,), counts, plan=planned, tables=(table,), warnings=warnings).followed_by("")


def run(config: Clean, context: Context | None = None) -> Summary:
    """Clean the inputs into a dataset folder or a pipe."""
    context = context or Context()
    for warning in config.warnings():
        context.warn(warning)
    if config.explain is not None:
        return explain(config, config.explain, context)
    out = destination(config)
    inputs = open_inputs(config.inputs, ReadOptions.from_config(config))
    findings.check_filters(config)
    check(config, context)
    with open_dataset(out, "documents", config, context, inputs, partial(other_fingerprints, config)) as dataset:
        if not dataset.up_to_date:
            dataset.commit(clean_documents(config, context, inputs, dataset))
    summary = dataset.summary
    segmentation.tell(summary.metrics.get("segmenters", {}), context)
    if stop_words := summary.metrics.get("stop_words"):
        context.info(f"stop words removed with {stop_words}")
    for line in findings.describe_missing(config, summary.counts, summary.metrics):
        context.info(line)
    if config.keep_rejects and not summary.counts.dropped:
        context.info("no document was dropped, so there are no rejects")
    tables = [funnel("clean", summary.counts)]
    if changed := summary.metrics.get("changed"):
        tables.append(Table("changed", ("", "times"), tuple((name, f"{n:,}") for name, n in changed.items())))
    following = "" if out == "-" else f"gptctl dedup {shlex.quote(out)} -o unique"
    warnings = tuple(findings.describe_dropped(config, summary.counts, summary.metrics))
    return replace(summary, tables=tuple(tables), warnings=warnings).followed_by(following)


def destination(config: Clean) -> str:
    """Return OUT. Raises UsageError (2) if it is missing."""
    if config.out is None:
        raise UsageError("-o is missing", "name the folder to write, or - for a pipe")
    return config.out


def other_fingerprints(config: Clean) -> dict[str, str]:
    """Return the fingerprints of the files that filters read, and of the evaluation data.

    Raises UsageError (2) for a filter that can drop nothing, and what a filter raises for a file that it cannot use.
    """
    findings.check_filters(config)
    prints = {name: value for filter_ in config.filter_chain() for name, value in filter_.fingerprints().items()}
    if config.decontaminate:
        found = Inputs(config.decontaminate, ReadOptions.from_config(config)).fingerprints() or {}
        prints |= {f"decontaminate {name}": value for name, value in found.items()}
    return prints


def clean_documents(config: Clean, context: Context, inputs: Inputs, dataset: DatasetOutput) -> StageResult:
    """Clean all documents and write them to the dataset."""
    options, metrics = ReadOptions.from_config(config), {}
    with scratch_folder(dataset.folder, config.tmp) as scratch:
        punkt_parameters = ""
        chosen: CleaningOptions = config
        trains, share = config.words == "nltk" and config.punkt == "train", wanted_share(config)
        tasks: Callable[[], Iterator[ShardTask]] = partial(inputs.tasks, config.limit)
        if trains or share is not None:
            tasks = inputs.repeatable_tasks(scratch, config.limit)
        if trains:
            punkt_parameters = train_punkt(CleanTask(config), list(tasks()), options)
        if share is not None:
            score = ScoreTask(CleanTask(config, punkt_parameters), options)
            metrics["lowest_score"] = find_cutoff(score, tasks(), load_executor(config), context, scratch)
            chosen = with_cutoff(config, metrics["lowest_score"])
        clean_task = CleanTask(chosen, punkt_parameters, config.keep_rejects)
        preload = (__name__, *(KERNELS if clean_task.filters else ()))
        pipeline = ShardPipeline(
            clean_task, options, dataset.folder, dataset.storage, preload=preload, in_groups=clean_task.by_block
        )
        totals = pipeline.run(tasks(), load_executor(config), context, dataset.pipe)
    metrics |= findings.summarize_stats(totals.stats) | {"words": describe_splitter(config.words, punkt_parameters)}
    findings.check_urls(config, metrics, config.inputs, ReadOptions.from_config(config))
    return StageResult(totals, metrics)


def check(config: Clean, context: Context) -> None:
    """Say what --decontaminate compares.

    Raises DataError (3) if nothing of the evaluation data can be found in any document.
    """
    if config.decontaminate:
        context.info(CleanTask(config).evaluation_texts.describe())


def explain(config: Clean, wanted_id: str, context: Context) -> Summary:
    """Show what each rule measures in one document. Raises UsageError (2) if no document has this id."""
    findings.check_filters(config)
    reading = ReadOptions.from_config(config)
    inputs = open_inputs(config.inputs, reading)
    options: CleaningOptions = config
    with scratch_folder(None) as scratch:
        tasks: Callable[[], Iterator[ShardTask]] = partial(inputs.tasks, config.limit)
        if wanted_share(config) is not None:
            tasks = inputs.repeatable_tasks(scratch, config.limit)
            score = ScoreTask(CleanTask(config), reading)
            options = with_cutoff(config, find_cutoff(score, tasks(), load_executor(config), context, scratch))
        explanation = explain_document(CleanTask(options), tasks(), reading, wanted_id)
    rules = [rule.to_json() for rule in explanation.rules]
    metrics = {"id": wanted_id, "verdict": explanation.verdict, "rules": rules}
    return Summary("clean", "explained", metrics=metrics, tables=explanation.tables(wanted_id))
