"""Writing documents without repeated text: the last step of the methods lines, paragraphs and substring."""

from __future__ import annotations

from dataclasses import replace

from gptctl.pipeline.dataset_output import DatasetOutput, StageResult
from gptctl.pipeline.shard_pipeline import ShardPipeline
from gptctl.text.dedup import report
from gptctl.text.dedup.repeated_text.removal import RemoveRepeats
from gptctl.text.dedup.repeated_text.search import RepeatSearch


def write_without_repeats(search: RepeatSearch, payload: bytes, dataset: DatasetOutput) -> StageResult:
    """Search for repeats and write the documents of INPUT without them, into a dataset.

    `payload` identifies an input stream, and is part of the key of each task: the result of a task depends on all
    others, and a stream that is piped again may have other tasks.
    """
    corpus, pool = search.corpus, search.pool
    metrics = search.run()
    remove = RemoveRepeats(search.method, search.workspace, len(corpus.against))
    pipeline = ShardPipeline(remove, corpus.options, dataset.folder, dataset.storage)
    tasks = (replace(task, payload=payload) for task in corpus.input_tasks())
    totals = pipeline.run(tasks, pool.executor, pool.context, dataset.pipe)
    return StageResult(totals, metrics | report.repeat_metrics(totals.stats))
