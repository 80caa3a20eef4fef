"""Writing documents without repeated text: the last step of the methods lines, paragraphs and substring."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gptctl.io.dataset.stream import StreamWriter
from gptctl.pipeline import execution
from gptctl.pipeline.execution import ShardPipeline
from gptctl.pipeline.stage_output import StageResult
from gptctl.text.dedup import report
from gptctl.text.dedup.within_documents.removal import RemoveRepeats
from gptctl.text.dedup.within_documents.search import RepeatSearch


def write_without_repeats(
    search: RepeatSearch, note: bytes, out: Path | None, pipe: StreamWriter | None
) -> StageResult:
    """Search for repeats and write the documents of INPUT without them, into a folder or a pipe.

    `note` identifies an input stream. The result of a task depends on all others, and a stream that is piped again may
    have other tasks.
    """
    corpus, pool = search.corpus, search.pool
    metrics = search.run()
    pipeline = ShardPipeline(RemoveRepeats(search.method, search.workspace, len(corpus.against)), corpus.options, out)
    tasks = (replace(task, note=note) for task in corpus.input_tasks())
    totals = execution.run(pipeline, tasks, pool.executor, pool.workers, pool.context, pipe)
    return StageResult(totals, metrics | report.repeat_metrics(totals.figures))
