"""Score a model, or any system's predictions: accuracy, precision, recall, F1 with intervals; bits per byte."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator

from gptctl.core import atomic, plugins
from gptctl.core.config import (
    ProcessOptions,
    ReadingOptions,
    SeedOption,
    Values,
    WorkerOptions,
    argument,
    flag,
    key,
    output,
    plain,
)
from gptctl.core.context import Context
from gptctl.core.errors import UsageError
from gptctl.core.summary import Counts, Summary
from gptctl.evals import evaluation
from gptctl.evals import metrics as metric_plugins
from gptctl.evals.comparison import baselines, gates, regressions
from gptctl.evals.comparison.gates import Gate, GateResult
from gptctl.evals.evaluation import Comparisons, Evaluation, OtherSystem
from gptctl.evals.fingerprints import fingerprints_of, is_model
from gptctl.evals.harness import lm_eval
from gptctl.evals.inference import ensemble
from gptctl.evals.inference.cache import OutputCache
from gptctl.evals.inference.dataset import DatasetPredictor, EvaluationData, InferenceSetup, resolve
from gptctl.evals.inference.options import InferenceOptions
from gptctl.evals.leakage import LeakageSearch
from gptctl.evals.output import files, junit, markdown, tables
from gptctl.evals.scoring.averages import Averaging
from gptctl.evals.scoring.classification import DEFAULT_METRICS
from gptctl.evals.scoring.options import ScoringOptions
from gptctl.evals.scoring.split_predictions import SplitPredictions, read_splits
from gptctl.executors import Executor, load_executor, processes
from gptctl.io.dataset.manifest import Manifest
from gptctl.io.input import predictions
from gptctl.io.input.blocks import ReadOptions
from gptctl.io.input.find import find_files
from gptctl.io.input.predictions import Rows
from gptctl.pipeline import labelled_data
from gptctl.pipeline.output_folder import open_output

EXAMPLES = (
    "gptctl eval classifier labelled --metrics f1",
    "gptctl eval classifier labelled/test.jsonl -o scores --fail-under f1=0.1 --json",
    "gptctl eval --predictions scores --average weighted",
)


class Eval(ReadingOptions, WorkerOptions, SeedOption, ProcessOptions):
    """Evaluate a model on the val and test splits of DATA, or score a file of predictions.

    A classifier gets accuracy, precision, recall and F1, per class, with 95 % intervals; a language model gets
    perplexity and bits per byte, or answers multiple choice. The figures at the top of --json are those of the last
    split: test, if there is one.
    """

    model: str | None = argument(None, "MODEL", "A run folder, one of its checkpoints, or a model folder.")
    data: str | None = argument(None, "DATA", "File or folder with the texts, or tokens.")
    predictions: str | None = flag(
        None,
        "Score this file of id, label, pred instead (- reads JSON lines).",
        panel="Input",
        runtime=True,
        reads=True,
    )
    out: str | None = output(None, "Folder or URI for predictions and metrics.")
    metrics: tuple[str, ...] = flag(
        DEFAULT_METRICS, "Metrics: a,b.", panel="Metrics", choices=lambda: plugins.names("gptctl.evals.metrics")
    )
    average: Literal["macro", "micro", "weighted", "binary", "samples"] = flag(
        "macro", "How classes are averaged.", panel="Metrics"
    )
    positive: str | None = flag(None, "The positive label, for --average binary.", panel="Metrics")
    labels: tuple[str, ...] | None = flag(
        None, "The label set: a,b; the model's or the ones seen if not given.", panel="Metrics"
    )
    label_column: str = flag("label", "Column that holds the label.", panel="Input")
    compare: str | None = flag(
        None, "Predictions of another system, or a model: test the difference.", panel="Comparison", reads=True
    )
    baseline: tuple[str, ...] | None = flag(
        None, "majority,nb or none; both if DATA has a train split.", panel="Comparison"
    )
    leakage: str | None = flag(None, "Training data in which to look for the texts.", panel="Comparison", reads=True)
    harness: str | None = flag(
        None, "Run the lm-eval tasks in this folder instead.", panel="Input", runtime=True, reads=True
    )
    fail_under: tuple[str, ...] = flag(
        (), "Exit with 7 if a metric is lower: f1=0.8,accuracy=0.7.", panel="Gates", runtime=True
    )
    no_regress: str | None = flag(
        None, "Exit with 7 if significantly worse than this --json file or predictions.", panel="Gates",
        runtime=True, reads=True,
    )  # fmt: skip
    junit: str | None = flag(None, "File for JUnit XML.", panel="Output", runtime=True)
    markdown: str | None = flag(None, "File for a summary in Markdown.", panel="Output", runtime=True)
    zero_division: Literal["0", "1", "nan"] = key("0", "Value of 0/0; nan leaves the class out.")
    macro_over: Literal["present", "all"] = key("present", "Classes in the macro average.")
    ci: Literal["auto", "bootstrap", "none"] = key("auto", "Intervals: closed forms where there are any, or none.")
    per_class: bool = key(True, "Report each class.")
    confusion: bool = key(True, "Report the confusion matrix.")
    bins: int = key(15, "Bins of the calibration error.", ge=1)
    norm: Literal["raw", "chars", "bytes", "tokens"] = key("raw", "What a choice's log-likelihood is divided by.")
    fail_over: tuple[str, ...] = key((), "Exit with 7 if a metric is higher: perplexity=30.", runtime=True)
    alpha: float = key(0.05, "p below which --no-regress takes a difference for real.", runtime=True, gt=0, lt=1)
    task: Literal["auto", "classify", "lm", "choices", "generate"] = key("auto", "What the model is asked.")
    batch_size: int = key(64, "Texts per forward pass.", ge=1, runtime=True)
    max_length: int = key(0, "Tokens that the model reads at once; 0 for as many as it can.", ge=0)
    stride: int = key(0, "Tokens scored per window of a long document; 0 takes the whole context.", ge=0)
    count_eos: bool = key(False, "Score the end of each document too.")
    allow_lossy: bool = key(False, "Score texts that the tokenizer cannot give back.")
    delimiter: str = key(" ", "Stands between a context and each choice.")
    max_tokens: int = key(64, "Tokens to generate per prompt, at most.", ge=1)
    stop: tuple[str, ...] = key(("\n",), "Texts at which generated text ends.")
    ensemble: bool = key(
        False, "Let all models of a finetune --seeds run decide together, by their mean probabilities."
    )
    cache: str = key("auto", "Folder of answers already given; auto: the user's cache, none: no cache.", runtime=True)
    emit_lm_eval_task: str | None = key(None, "Folder for DATA as tasks of lm-eval.", runtime=True)

    @field_validator("zero_division", "positive", "labels", mode="before")
    @classmethod
    def as_text(cls, value: Any) -> Any:
        """Take numbers as text, as TOML and --set give them: labels are compared as text."""
        listed = [predictions.text_of(item) for item in value] if isinstance(value, list | tuple) else None
        return listed if listed is not None else predictions.text_of(value)

    def scoring_options(self) -> ScoringOptions:
        """Return how predictions are scored."""
        zero: Any = "nan" if self.zero_division == "nan" else float(self.zero_division)
        return ScoringOptions(
            metrics=self.metrics,
            averaging=Averaging(self.average, self.positive, zero, self.macro_over),
            labels=self.labels,
            bins=self.bins,
            ci=self.ci,
            seed=self.seed,
            norm=self.norm,
            per_class=self.per_class,
            confusion=self.confusion,
        )

    def inference_setup(self) -> InferenceSetup:
        """Return what a model is asked to do, and on which device."""
        options = InferenceOptions(
            label_column=self.label_column,
            batch_size=self.batch_size,
            max_length=self.max_length,
            stride=self.stride,
            count_eos=self.count_eos,
            allow_lossy=self.allow_lossy,
            delimiter=self.delimiter,
            max_tokens=self.max_tokens,
            stop=self.stop,
        )
        wants_texts = all("texts" in metric_plugins.load(name).PREDICTION_TYPES for name in self.metrics)
        return InferenceSetup(self.task, wants_texts, options, self.device, self.nproc_per_node)

    def baseline_names(self) -> tuple[str, ...]:
        """Return the baselines by name; "none" is not one of them."""
        chosen = tuple(baselines.BASELINES) if self.baseline is None else self.baseline
        return tuple(name for name in chosen if name != "none")

    def gates(self) -> list[Gate]:
        """Return the thresholds of --fail-under and fail_over."""
        lowest = [gates.parse(text) for text in self.fail_under]
        return lowest + [gates.parse(text, "over") for text in self.fail_over]


def plan(config: Eval, context: Context) -> Summary:
    """Check the command and that its inputs exist; return what would be scored."""
    from gptctl.model.files.locate import find_model

    validate(config)
    if config.model is not None:
        find_model(config.model)
    if config.data is not None:
        labelled_data.find_splits(config.data)
    for path in (config.predictions, config.compare, config.leakage, config.no_regress):
        if path is not None and path != "-":
            find_files(path)
    model = f"{config.model} on {config.data or config.harness}"
    what = f"predictions {config.predictions}" if config.predictions else model
    facts: Values = {"metrics": list(config.metrics), "average": config.average, "what": what}
    return Summary("eval", "planned", (config.out,) if config.out else (), plan=facts)


def run(config: Eval, context: Context | None = None) -> Summary:
    """Evaluate, and write predictions and metrics if -o was given. A missed gate makes the summary a failure."""
    context, started = context or Context(), time.monotonic()
    validate(config)
    earlier = regressions.read_earlier(config.no_regress)
    if config.out is None:
        evaluated = evaluate(config, context)
        return summarize(config, context, evaluated, check(config, evaluated, earlier), started)
    inputs = input_fingerprints(config)
    with open_output(config.out, config, context, inputs) as record:
        if record.up_to_date:
            splits = read_splits(config.out, config.metrics) if isinstance(earlier, list) else []
            evaluated = Evaluation(record.previous_summary().metrics, splits)
            summary = summarize(config, context, evaluated, check(config, evaluated, earlier), started)
            return replace(summary, status="up to date")
        evaluated = evaluate(config, context)
        summary = summarize(config, context, evaluated, check(config, evaluated, earlier), started)
        return record.finish(summary, write(config, record.path, evaluated, inputs))


def validate(config: Eval) -> None:
    """Raise UsageError (2) for a command that names nothing, or too much, to score."""
    if (config.predictions is None) == (config.model is None):
        raise UsageError(
            "name either MODEL and DATA, or --predictions", "gptctl eval MODEL DATA, or gptctl eval --predictions FILE"
        )
    if config.model is not None and (config.data is None) == (config.harness is None):
        raise UsageError("name either DATA or --harness", "gptctl eval MODEL DATA, or gptctl eval MODEL --harness DIR")
    if config.predictions == "-" and config.out is not None:
        raise UsageError("--predictions - cannot be written with -o", "save standard input to a file first")
    for name in config.metrics:
        metric_plugins.load(name)
    baselines.check_names(config.baseline_names())
    if config.average == "binary" and config.positive is None:
        raise UsageError("--average binary needs --positive LABEL", "name the positive label; it is never guessed")
    config.gates()


def input_fingerprints(config: Eval) -> dict[str, str]:
    """Return the hashes of everything that is read."""
    paths = {"predictions": config.predictions, "data": config.data, "harness": config.harness}
    paths |= {"compare": config.compare, "leakage": config.leakage}
    if config.ensemble and config.model:
        paths |= {f"model {number}": model for number, model in enumerate(ensemble.member_runs(config.model))}
    paths["model"] = config.model
    return {
        f"{name}/{part}": value for name, path in paths.items() if path for part, value in fingerprints_of(path).items()
    }


def evaluate(config: Eval, context: Context) -> Evaluation:
    """Run the model or read the predictions, and score them; or run lm-eval's tasks."""
    if config.harness is not None:
        return Evaluation(run_harness(config), [])
    if config.predictions is not None:
        splits = read_splits(config.predictions, config.metrics)
    else:
        assert config.model is not None
        splits = predict(config, config.model, context)
    comparisons = Comparisons(
        baselines=config.baseline_names(),
        require_baselines=config.baseline is not None,
        other=other_system(config, context),
        leakage=leakage_search(config),
    )
    return evaluation.evaluate(splits, config.scoring_options(), comparisons, context)


def predict(config: Eval, model: str, context: Context) -> list[SplitPredictions]:
    """Return the predictions of a model, or of an ensemble, for each evaluation split of DATA."""
    assert config.data is not None
    export_tasks = Path(config.emit_lm_eval_task) if config.emit_lm_eval_task else None
    data = EvaluationData(config.data, config, config.metrics, bool(config.baseline_names()), export_tasks)
    executor = Executor(processes.run, config.nproc_per_node)
    cache = OutputCache(OutputCache.folder_of(config.cache), context.warn)
    predictor = DatasetPredictor(data, config.inference_setup(), executor, cache, context)
    return predictor.predict_ensemble(model) if config.ensemble else predictor.predict(model)


def other_system(config: Eval, context: Context) -> OtherSystem | None:
    """Return the predictions of --compare, which names a model or predictions."""
    if config.compare is None:
        return None
    if not is_model(config.compare):
        return OtherSystem(config.compare, predictions.read_predictions(config.compare).rows)
    if config.data is None:
        raise UsageError("--compare names a model, but there is no DATA to run it on", "name its predictions")
    splits = predict(config, config.compare, context)
    return OtherSystem(config.compare, [row for split in splits for row in split.rows])


def leakage_search(config: Eval) -> LeakageSearch | None:
    """Return the search that --leakage asks for."""
    if config.leakage is None:
        return None
    return LeakageSearch(config.leakage, ReadOptions.from_config(config), load_executor(config))


def run_harness(config: Eval) -> Values:
    """Run lm-eval's tasks on the model."""
    import torch

    from gptctl.model.device import configure_process

    assert config.model is not None and config.harness is not None
    spec = resolve(config.model, replace(config.inference_setup(), task="lm"))
    configure_process(spec.threads)
    device = torch.device(spec.device)
    return lm_eval.evaluate(config.harness, spec.load(), spec.options, device, limit=config.limit, seed=config.seed)


def check(config: Eval, evaluated: Evaluation, earlier: Values | Rows | None) -> list[GateResult]:
    """Check the gates."""
    results = gates.check_gates(evaluated.report, config.gates())
    if earlier is None:
        return results
    return results + evaluation.check_regressions(evaluated, earlier, config.alpha, config.scoring_options())


def summarize(
    config: Eval, context: Context, evaluated: Evaluation, results: list[GateResult], started: float
) -> Summary:
    """Return the summary with the gates that were missed; write the files for CI."""
    report = evaluated.report
    for line in report.get("warnings", []):
        context.warn(line)
    if config.junit:
        atomic.write_text(Path(config.junit), junit.render(report, results, time.monotonic() - started))
    if config.markdown:
        atomic.write_text(Path(config.markdown), markdown.render(report, results))
    rows = sum(split["n"] for split in (report.get("splits") or {"": report}).values())
    counts = Counts(documents_in=rows, kept=rows)
    outputs = (config.out,) if config.out else ()
    shown, failure = tables.report_tables(report), gates.failure(results)
    return Summary("eval", "done", outputs, counts, plain(report), tables=shown, failure=failure)


def write(config: Eval, folder: Path, evaluated: Evaluation, inputs: dict[str, str]) -> Manifest:
    """Write predictions, metrics and the picture of the confusion matrix; return the manifest to write last."""
    from gptctl.reporting import plots

    shards = files.write(folder, evaluated)
    if matrix := evaluated.report.get("confusion"):
        picture = plots.confusion_matrix(matrix["labels"], matrix["matrix"], matrix["invalid"])
        atomic.write_bytes(folder / "confusion.svg", picture)
    rows = sum(len(split.rows) for split in evaluated.splits)
    counts = Counts(documents_in=rows, kept=rows)
    kind = files.dataset_kind(evaluated)
    return Manifest(kind, "eval", config.settings(), inputs, shards, counts, evaluated.report)
