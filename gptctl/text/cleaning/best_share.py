"""Find the score above which the best share of all documents lies, in a pass over the input before it is cleaned."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gptctl.core.context import Context
from gptctl.executors import Executor
from gptctl.io.dataset.schema import slices
from gptctl.io.input.blocks import ReadOptions, ShardTask
from gptctl.io.input.read_task import read_task
from gptctl.text.cleaning.clean_task import SLICE_BYTES, CleanTask
from gptctl.text.cleaning.document_batch import DocumentBatch
from gptctl.text.cleaning.filter_chain import apply_filters
from gptctl.text.cleaning.options import CleaningOptions
from gptctl.text.cleaning.sampling import SAMPLE_DOCUMENTS, sample_tasks

CLASSIFIER = "classifier"
HALF_BITS = 16
CHUNK_SCORES = 2**20
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class ScoreTask:
    """Scores the documents of a task that reach the filter `classifier`; this is what a worker calls."""

    clean_task: CleanTask
    reading: ReadOptions
    most: int | None = None  # documents of a task that are read, for a sample

    def __call__(self, task: ShardTask) -> Scores:
        """Return the scores of a task's documents, without those that an earlier filter drops."""
        documents = read_task(task, self.reading).documents.slice(0, self.most)
        parts = slices(documents, SLICE_BYTES) if self.clean_task.by_block else [documents]
        return np.concatenate([self.score(part) for part in parts])

    def score(self, table: pa.Table) -> Scores:
        """Return the scores of some documents."""
        names = [configured.name for configured in self.clean_task.filters]
        number = names.index(CLASSIFIER)
        batch, reasons = self.clean_task.extract_texts(table)
        result = apply_filters(batch.filter(pc.is_null(reasons)), self.clean_task.filters[:number])
        text = result.text.filter(pc.is_null(result.reasons))
        classifier = self.clean_task.filters[number]
        return classifier.measure(DocumentBatch(text), classifier.rules()).figures[:, 0].astype(np.float32)


def wanted_share(options: CleaningOptions) -> float | None:
    """Return the share of documents that the filter `classifier` keeps, or None if a threshold decides."""
    used = any(configured.name == CLASSIFIER for configured in options.filter_chain())
    share: float | None = options.filter_settings(CLASSIFIER).keep_fraction
    return share if used else None


def with_cutoff(options: CleaningOptions, cutoff: float) -> CleaningOptions:
    """Return the options with the score from which documents are kept."""
    config = options.filter_settings(CLASSIFIER).model_copy(update={"threshold": cutoff})
    return options.model_copy(update={CLASSIFIER: config})


def with_sampled_cutoff(options: CleaningOptions, tasks: Callable[[], Iterator[ShardTask]]) -> CleaningOptions:
    """Return the options with an estimate of that score from a sample, or unchanged if a threshold decides."""
    share = wanted_share(options)
    if share is None:
        return options
    score = ScoreTask(CleanTask(options), ReadOptions.from_config(options), SAMPLE_DOCUMENTS)
    scores = np.sort(np.concatenate([[], *map(score, sample_tasks(list(tasks())))]))
    return with_cutoff(options, float(scores[-rank(share, len(scores))]) if len(scores) else 0.0)


def find_cutoff(
    score: ScoreTask, tasks: Iterable[ShardTask], executor: Executor, context: Context, folder: Path
) -> float:
    """Return the lowest score of the best share of all documents. The scores are kept in a file in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "scores"
    with path.open("wb") as file:
        for number, scores in enumerate(executor.map(score, tasks, (__name__,)), start=1):
            file.write(scores.tobytes())
            context.report_shards(number, note="scoring all documents")
            context.stop.check("stopped")
    share = wanted_share(score.clean_task.options)
    assert share is not None
    cutoff = lowest_kept(path, share)
    path.unlink()
    return cutoff


def lowest_kept(path: Path, share: float) -> float:
    """Return the k-th highest of the scores in a file, of which k is this share, rounded up; 0 if there are none.

    The scores are not negative, so their bits are in the same order. The upper half of the bits of the result is found
    first, then the lower half, so memory does not depend on the number of scores.
    """
    above = rank(share, path.stat().st_size // 4)
    if not above:
        return 0.0
    upper, above = highest_with((chunk >> HALF_BITS for chunk in chunks(path)), above)
    lower, _ = highest_with((chunk[chunk >> HALF_BITS == upper] & 0xFFFF for chunk in chunks(path)), above)
    return float(np.array([upper << HALF_BITS | lower], np.uint32).view(np.float32)[0])


def rank(share: float, documents: int) -> int:
    """Return how many documents a share of them is, rounded up."""
    return math.ceil(round(share * documents, 6))  # 0.07 of 1,000 is 70.00000000000001


def highest_with(values: Iterable[NDArray[Any]], wanted: int) -> tuple[int, int]:
    """Return the highest number below 2**16 that at least `wanted` values reach, and how many of those are equal to it.

    The second number counts only as many of the equal values as are wanted.
    """
    counts = np.zeros(2**HALF_BITS, np.int64)
    for chunk in values:
        counts += np.bincount(chunk, minlength=len(counts))
    reached = np.cumsum(counts[::-1])
    place = int(np.searchsorted(reached, wanted))
    return len(counts) - 1 - place, wanted - int(reached[place - 1] if place else 0)


def chunks(path: Path) -> Iterator[NDArray[np.uint32]]:
    """Yield the bits of the scores in a file."""
    with path.open("rb") as file:
        while data := file.read(4 * CHUNK_SCORES):
            yield np.frombuffer(data, np.uint32)
