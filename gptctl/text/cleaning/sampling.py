"""Clean a sample of the input: to estimate the counts for --dry-run, and to train the sentence splitter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

import pyarrow.compute as pc

from gptctl.core.context import Context
from gptctl.core.summary import Counts
from gptctl.io.input.blocks import ReadOptions, ReadResult, ShardTask
from gptctl.io.input.read_task import read_task
from gptctl.pipeline.task_results import PipelineTotals, TaskOutput
from gptctl.text import punkt
from gptctl.text.cleaning.clean_task import CleanTask
from gptctl.text.cleaning.findings import summarize_stats

# The sample: the first documents of some tasks, evenly spread over the input.
SAMPLE_TASKS, SAMPLE_DOCUMENTS = 8, 200
PUNKT_CHARACTERS = 4_000_000  # 8 seconds


def sample_tasks(tasks: list[ShardTask]) -> list[ShardTask]:
    """Return a few tasks, evenly spread over the input."""
    count = min(len(tasks), SAMPLE_TASKS)
    return [tasks[i * len(tasks) // count] for i in range(count)]


def estimate_counts(
    clean_task: CleanTask, read: Iterable[tuple[ShardTask, ReadResult]], context: Context
) -> tuple[Counts, dict[str, Any], PipelineTotals]:
    """Clean a sample of what was read. Return its counts and metrics, and the totals of all that was read.

    Unreadable records count in proportion to the documents that were cleaned.
    """
    totals = PipelineTotals()
    samples: list[TaskOutput] = []
    stride = 1
    for number, (task, found) in enumerate(read):
        totals.add_read(found)
        if number % stride == 0:
            samples.append(clean_sample(clean_task, task, found))
        if len(samples) == 2 * SAMPLE_TASKS:  # of more tasks, every second one is enough
            samples, stride = samples[::2], 2 * stride
        context.stop.check("stopped")
    counts = Counts()
    for sample in samples:
        counts.add(sample.counts)
    return counts, summarize_stats(sample.stats for sample in samples), totals


def clean_sample(clean_task: CleanTask, task: ShardTask, found: ReadResult) -> TaskOutput:
    """Clean the first documents of a task, and count its unreadable records in proportion."""
    output = clean_task(task, found.documents.slice(0, SAMPLE_DOCUMENTS))
    counts = output.counts
    share = counts.documents_in / len(found.documents) if len(found.documents) else 1.0
    unreadable = found.unreadable[: round(len(found.unreadable) * share)]
    counts.documents_in += len(unreadable)
    counts.quarantined.update(dict(Counter(record.reason for record in unreadable)))
    return output


def train_punkt(clean_task: CleanTask, tasks: list[ShardTask], reading: ReadOptions) -> str:
    """Train the sentence splitter on a sample, and return its parameters."""
    texts: list[str] = []
    for task in sample_tasks(tasks):
        table = read_task(task, reading)[0].slice(0, SAMPLE_DOCUMENTS)
        batch, reasons = clean_task.extract_texts(table)
        extracted = batch.filter(pc.is_null(reasons)).text.to_pylist()
        ends = accumulate(map(len, extracted))
        texts += [text for text, end in zip(extracted, ends, strict=True) if end <= PUNKT_CHARACTERS // SAMPLE_TASKS]
    return punkt.train(texts)
