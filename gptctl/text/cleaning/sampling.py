"""Clean a sample of the input: to estimate the counts for --dry-run, and to train the sentence splitter."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate
from typing import Any

import pyarrow.compute as pc

from gptctl.core.context import Context
from gptctl.core.summary import Counts
from gptctl.io.input.blocks import ReadOptions, ShardTask
from gptctl.io.input.read_task import read_task
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
    clean_task: CleanTask, tasks: list[ShardTask], reading: ReadOptions, context: Context
) -> tuple[Counts, dict[str, Any]]:
    """Clean a sample and return its counts and metrics.

    Unreadable records count in proportion to the documents that were read.
    """
    counts, stats = Counts(), []
    for task in sample_tasks(tasks):
        table, unreadable = read_task(task, reading)
        cleaned = clean_task(task, table.slice(0, SAMPLE_DOCUMENTS))
        part = cleaned.counts
        stats.append(cleaned.stats)
        share = part.documents_in / len(table) if len(table) else 1.0
        unreadable = unreadable[: round(len(unreadable) * share)]
        part.documents_in += len(unreadable)
        part.quarantined.update(dict(Counter(record.reason for record in unreadable)))
        counts.add(part)
        context.stop.check("stopped")
    return counts, summarize_stats(stats)


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
