"""Run a task on a table of documents: build the requests, run them or read their outputs from the cache, make rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import pyarrow as pa

from gptctl.core.context import Context
from gptctl.evals import tasks
from gptctl.evals.inference.cache import Block, OutputCache
from gptctl.evals.inference.cached_run import InferenceResult, run_cached, split_blocks
from gptctl.evals.inference.worker import InferenceSpec, run_block
from gptctl.evals.scoring.split_predictions import PredictionMetadata
from gptctl.evals.tasks import Outputs
from gptctl.executors import Executor
from gptctl.io.input.predictions import Rows


def predict(
    spec: InferenceSpec, table: pa.Table, executor: Executor, cache: OutputCache, context: Context
) -> tuple[Rows, InferenceResult]:
    """Return a row of predictions for each document of a table, and what was run."""
    task_requests = tasks.load(spec.task).build_requests(table, spec.load(), spec.options)
    total = len(task_requests.requests)

    def run_blocks(blocks: Iterable[Block]) -> Iterator[Outputs]:
        for outputs in executor.map(partial(run_block, spec), blocks):
            context.stop.check("stopped")
            yield outputs

    result = run_cached(
        split_blocks(task_requests.requests, spec.options.batch_size),
        spec.cache_identity(),
        run_blocks,
        cache,
        lambda done: context.progress(done, total, "requests"),
    )
    return task_requests.to_rows(result.outputs), result


def prediction_metadata(spec: InferenceSpec) -> PredictionMetadata:
    """Return what is recorded with the predictions of a task."""
    task, model = tasks.load(spec.task), spec.load()
    return PredictionMetadata(task.PREDICTION_TYPE, task.report_settings(model, spec.options), model.label_names)


def request_texts(table: pa.Table) -> tuple[str, ...]:
    """Return what the model reads of each document as text: the text, and the choices if there are any."""
    texts: list[str] = table["text"].to_pylist()
    if "choices" not in table.column_names:
        return tuple(texts)
    choices = table["choices"].to_pylist()
    return tuple(" ".join([text, *options]) for text, options in zip(texts, choices, strict=True))
