"""Predict: run a model, or several, on the evaluation splits of DATA."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from gptctl.core.config import ReadingOptions
from gptctl.core.context import Context
from gptctl.core.errors import UsageError
from gptctl.core.formatting import format_duration
from gptctl.evals import tasks, training_data
from gptctl.evals.comparison import baselines
from gptctl.evals.evaluation import OtherSystem
from gptctl.evals.fingerprints import is_model
from gptctl.evals.harness import task_export
from gptctl.evals.inference import loaded_model
from gptctl.evals.inference.cache import OutputCache
from gptctl.evals.inference.ensemble import average_predictions, member_runs
from gptctl.evals.inference.options import InferenceOptions
from gptctl.evals.inference.predict import predict, prediction_metadata, request_texts
from gptctl.evals.inference.worker import InferenceSpec, choose_task
from gptctl.evals.scoring.split_predictions import SplitPredictions, group_by_split
from gptctl.executors import Executor
from gptctl.io.input import sniff
from gptctl.io.input.blocks import ReadOptions
from gptctl.io.input.predictions import Predictions, read_predictions
from gptctl.pipeline import data_splits


@dataclass(frozen=True)
class InferenceSetup:
    """What a model is asked to do, and on which device. `wants_texts`: all metrics are those of generated text."""

    task: str
    wants_texts: bool
    options: InferenceOptions
    device: str
    processes: int = 1


@dataclass(frozen=True)
class EvaluationData:
    """DATA, and how it is used.

    reading: how its documents are read. metrics: the metrics that were named. with_training_split: whether baselines
    need the training split. export_tasks: the folder for DATA as tasks of lm-evaluation-harness, or None.
    """

    path: str
    reading: ReadingOptions
    metrics: tuple[str, ...]
    with_training_split: bool = False
    export_tasks: Path | None = None


@dataclass(frozen=True)
class DatasetPredictor:
    """Runs models on DATA.

    executor: runs the blocks of requests, in one process or several. ensemble: MODEL is a `finetune --seeds` run, whose
    models decide together.
    """

    data: EvaluationData
    setup: InferenceSetup
    executor: Executor
    cache: OutputCache
    context: Context
    ensemble: bool = False

    def predict(self, model: str) -> list[SplitPredictions]:
        """Return the predictions of a model, or the mean ones of an ensemble, for each evaluation split."""
        if self.ensemble:
            return average_predictions([self.predict_one(member) for member in member_runs(model)])
        return self.predict_one(model)

    def count_requests(self, model: str) -> dict[str, int]:
        """Return the number of requests for each evaluation split. The model is loaded, but not run."""
        for member in member_runs(model) if self.ensemble else [model]:
            spec, data = self.open(member)
            task = tasks.load(spec.task)
            counts = {
                split: len(task.build_requests(table, spec.load(), spec.options).requests)
                for split, table in self.splits(data, spec)
            }
        return counts

    def open(self, model: str) -> tuple[InferenceSpec, EvaluationData]:
        """Load a model, and return how it is run and how DATA is read for its task."""
        data, context_column = self.data, choice_context_column(self.data)
        spec = resolve(model, self.setup, self.context, context_column is not None)
        if spec.task == "choices" and context_column:
            data = replace(data, reading=data.reading.model_copy(update={"text_column": context_column}))
        return spec, data

    def predict_one(self, model: str) -> list[SplitPredictions]:
        """Return the predictions of one model for each evaluation split."""
        spec, data = self.open(model)
        train = None
        if spec.task == "classify" and data.with_training_split:
            column = self.setup.options.label_column
            train = baselines.training_texts(data.reading, data.path, column, spec.load().trained_on, self.context.warn)
        return [
            replace(self.predict_split(spec, split, table), train=train) for split, table in self.splits(data, spec)
        ]

    def splits(self, data: EvaluationData, spec: InferenceSpec) -> Iterator[tuple[str, pa.Table]]:
        """Yield the name and the texts of each evaluation split, for a classifier only those that have a label."""
        for split, table in evaluation_splits(data, spec, self.context):
            labelled = table
            if spec.task == "classify":
                labelled, lacking = data_splits.with_labels(table, self.setup.options.label_column, split)
                if lacking:
                    self.context.warn(data_splits.lacking_warning(lacking, len(table), split))
            yield split, labelled

    def predict_split(self, spec: InferenceSpec, split: str, table: pa.Table) -> SplitPredictions:
        """Return the predictions of a model for the documents of one split."""
        if self.data.export_tasks:
            written = task_export.write(self.data.export_tasks, split, table, spec.task, spec.options)
            self.context.info(f"written: {written}")
        rows, result = predict(spec, table, self.executor, self.cache, self.context)
        self.context.info(
            f"{split}: {result.requests:,} requests, {result.cached:,} from the cache; "
            f"the model took {format_duration(result.model_seconds)}"
        )
        metadata = prediction_metadata(spec)
        metrics = self.data.metrics if metadata.prediction_type == "texts" else ()
        predictions = Predictions([{"split": split, **row} for row in rows], {"rows": metadata.prediction_type})
        [found] = group_by_split(predictions, metrics, f"{split} of {self.data.path}")
        return replace(found, metadata=metadata, texts=request_texts(table))


def resolve(model: str, setup: InferenceSetup, context: Context, has_choices: bool = False) -> InferenceSpec:
    """Load a model and decide its task and device."""
    from gptctl.model import device
    from gptctl.model.files.locate import find_model
    from gptctl.model.files.model_manifest import model_fingerprint

    folder = find_model(model, context.info)
    fingerprint = model_fingerprint(folder)
    task = choose_task(loaded_model.load(str(folder), fingerprint), setup.task, has_choices, setup.wants_texts)
    selected, threads = str(device.select_device(setup.device)), device.cpu_threads(setup.processes)
    return InferenceSpec(str(folder), fingerprint, task, setup.options, selected, threads)


def other_system(path: str, predictor: DatasetPredictor | None, reading: ReadOptions) -> OtherSystem:
    """Return the predictions of another system: read from a file, or of a model that is run on the same data."""
    if not is_model(path):
        return OtherSystem(path, read_predictions(path, reading).rows)
    if predictor is None:
        raise UsageError("--compare names a model, but there is no DATA to run it on", "name its predictions")
    return OtherSystem(path, [row for split in predictor.predict(path) for row in split.rows])


def check_read_once(out: str | None, compare: str | None, leakage: str | None, ensemble: bool) -> None:
    """Raise UsageError (2) for an option that reads the rows a second time, which a pipe does not allow."""
    again = {
        "-o": out is not None,
        "--set ensemble=true": ensemble,
        "--compare -": compare == "-",
        "--compare MODEL": compare and is_model(compare),
        "--leakage -": leakage == "-",
    }
    if wrong := [option for option, is_given in again.items() if is_given]:
        raise UsageError(f"standard input cannot be used with {wrong[0]}", "save standard input to a file first")


def choice_context_column(data: EvaluationData) -> str | None:
    """Return the column of contexts if DATA is multiple choice, else None."""
    splits = data_splits.find_splits(data.path)
    first = next(iter(splits.named.values()), splits.whole or data.path)
    return sniff.choices_beside(first, ReadOptions.from_config(data.reading))


def evaluation_splits(data: EvaluationData, spec: InferenceSpec, context: Context) -> Iterator[tuple[str, pa.Table]]:
    """Yield the name and the documents of each evaluation split, of documents or of a folder of tokens."""
    if training_data.is_tokens(data.path):
        yield from training_data.held_out_splits(data.path, data.reading.limit)
    else:
        trained_on = dict(spec.load().trained_on)
        yield from data_splits.evaluation_splits(data.reading, data.path, trained_on, context)
