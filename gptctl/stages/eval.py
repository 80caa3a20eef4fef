"""Score a model, or any system's predictions: accuracy, precision, recall, F1 with intervals; bits per byte."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import field_validator

from gptctl.core import atomic, plugins
from gptctl.core.config import (
    DeviceOption,
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
from gptctl.core.errors import DataError, UsageError
from gptctl.core.formatting import format_duration
from gptctl.core.summary import Counts, Summary
from gptctl.evals import fingerprints, leakage, training_data
from gptctl.evals.inference import ensemble
from gptctl.evals.output import junit, markdown, tables
from gptctl.evals.scoring import baselines, classification, evaluation
from gptctl.evals.scoring.averages import Averaging
from gptctl.evals.scoring.evaluation import Examples
from gptctl.evals.scoring.options import Options
from gptctl.evals.stats import gates, regressions
from gptctl.evals.stats.gates import Check, Gate
from gptctl.executors import load_executor
from gptctl.io.dataset import shards
from gptctl.io.dataset.manifest import Manifest
from gptctl.io.input import predictions, sniff
from gptctl.io.input.blocks import ReadOptions
from gptctl.io.input.find import find_files
from gptctl.io.input.predictions import Rows
from gptctl.pipeline import labelled_data
from gptctl.pipeline.output_folder import open_output

if TYPE_CHECKING:
    from gptctl.evals.inference.loaded_model import Settings
    from gptctl.evals.inference.predict import Job

EXAMPLES = (
    "gptctl eval classifier labelled --metrics f1",
    "gptctl eval classifier labelled/test.jsonl -o scores --fail-under f1=0.1 --json",
    "gptctl eval --predictions scores --average weighted",
)
ROW_KINDS = {"nats": "scores", "choices": "choices"}


class Eval(ReadingOptions, WorkerOptions, SeedOption, DeviceOption):
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
        classification.DEFAULTS, "Metrics: a,b.", panel="Metrics", choices=lambda: plugins.names("gptctl.evals.metrics")
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
    context: int = key(0, "Tokens the model reads at once; 0 takes all it can.", ge=0)
    stride: int = key(0, "Tokens scored per window of a long document; 0 takes the whole context.", ge=0)
    count_eos: bool = key(False, "Score the end of each document too.")
    allow_lossy: bool = key(False, "Score texts that the tokenizer cannot give back.")
    delimiter: str = key(" ", "Stands between a context and each choice.")
    max_tokens: int = key(64, "Tokens to generate per prompt, at most.", ge=1)
    stop: tuple[str, ...] = key(("\n",), "Texts at which generated text ends.")
    ensemble: bool = key(
        False, "Let all models of a finetune --seeds run decide together, by their mean probabilities."
    )
    nproc_per_node: int = flag(
        1, "Processes that run the model, for --device cpu.", metavar="N", panel="Devices", ge=1, runtime=True
    )
    cache: str = key("auto", "Folder of answers already given; auto: the user's cache, none: no cache.", runtime=True)
    emit_lm_eval_task: str | None = key(None, "Folder for DATA as tasks of lm-eval.", runtime=True)

    @field_validator("zero_division", "positive", "labels", mode="before")
    @classmethod
    def as_text(cls, value: Any) -> Any:
        """Take numbers as text, as TOML and --set give them: labels are compared as text."""
        listed = [predictions.text_of(item) for item in value] if isinstance(value, list | tuple) else None
        return listed if listed is not None else predictions.text_of(value)

    def options(self) -> Options:
        """Say how rows are scored."""
        zero: Any = "nan" if self.zero_division == "nan" else float(self.zero_division)
        averaging = Averaging(self.average, self.positive, zero, self.macro_over)
        return Options(
            self.metrics, averaging, self.labels, None, self.bins, self.ci, self.seed, self.norm, self.per_class,
            self.confusion,
        )  # fmt: skip

    def asking(self) -> Settings:
        """Say how the model is asked."""
        from gptctl.evals.inference.loaded_model import Settings

        return Settings(
            self.label_column, self.batch_size, self.context, self.stride, self.count_eos, self.allow_lossy,
            self.delimiter, self.max_tokens, self.stop,
        )  # fmt: skip

    def baselines(self) -> tuple[str, ...]:
        """Return the baselines by name."""
        chosen = tuple(baselines.BASELINES) if self.baseline is None else self.baseline
        return tuple(name for name in chosen if name != "none")


def plan(config: Eval, context: Context) -> Summary:
    """Check the command, and that what it names is there; say what would be scored."""
    from gptctl.model.files.locate import find_model

    checked(config)
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
    """Score, and write predictions and metrics if -o was given. Gates that are missed are the summary's failure."""
    context, started = context or Context(), time.monotonic()
    bars = checked(config)
    old = regressions.earlier(config.no_regress)
    if config.out is None:
        result, parts = score(config, context)
        return finish(config, context, result, parts, judge(config, result, parts, bars, old), started)
    inputs = input_fingerprints(config)
    with open_output(config.out, config, context, inputs) as record:
        if record.up_to_date:
            result = record.previous_summary().metrics
            parts = evaluation.of_predictions(config.out, config.metrics) if isinstance(old, list) else []
            checks = judge(config, result, parts, bars, old)
            return replace(finish(config, context, result, parts, checks, started), status="up to date")
        result, parts = score(config, context)
        summary = finish(config, context, result, parts, judge(config, result, parts, bars, old), started)
        return record.finish(summary, write(config, record.path, result, parts, inputs))


def checked(config: Eval) -> list[Gate]:
    """Refuse a command that names nothing or too much to score; give the bars of the gates."""
    if (config.predictions is None) == (config.model is None):
        raise UsageError(
            "name either MODEL and DATA, or --predictions", "gptctl eval MODEL DATA, or gptctl eval --predictions FILE"
        )
    if config.model is not None and (config.data is None) == (config.harness is None):
        raise UsageError("name either DATA or --harness", "gptctl eval MODEL DATA, or gptctl eval MODEL --harness DIR")
    if config.predictions == "-" and config.out is not None:
        raise UsageError("--predictions - cannot be written with -o", "save standard input to a file first")
    for name in config.metrics:
        plugins.load("gptctl.evals.metrics", name)
    baselines.check(config.baselines())
    if config.average == "binary" and config.positive is None:
        raise UsageError("--average binary needs --positive LABEL", "name the positive label; it is never guessed")
    bars = [gates.parse(text) for text in config.fail_under]
    return bars + [gates.parse(text, "over") for text in config.fail_over]


def input_fingerprints(config: Eval) -> dict[str, str]:
    """Hash what is read."""
    found: dict[str, str] = {}
    named = {"predictions": config.predictions, "data": config.data, "harness": config.harness}
    for name, path in (named | {"compare": config.compare, "leakage": config.leakage}).items():
        found |= {f"{name}/{part}": value for part, value in fingerprints.prints_of(path).items()} if path else {}
    for number, model in enumerate(ensemble.members(config.model) if config.ensemble and config.model else []):
        found |= {f"model {number}/{part}": value for part, value in fingerprints.prints_of(model).items()}
    if config.model:
        found |= {f"model/{part}": value for part, value in fingerprints.prints_of(config.model).items()}
    return found


def score(config: Eval, context: Context) -> tuple[Values, list[Examples]]:
    """Go through one of the doors; give the result, and the rows that it comes from."""
    if config.harness is not None:
        return run_harness(config), []
    if config.predictions is not None:
        parts = evaluation.of_predictions(config.predictions, config.metrics)
    else:
        assert config.model is not None
        parts = ask(config, config.model, context)
    parts = [guess(config, part) for part in parts]
    options = config.options()
    results = {part.split: evaluation.report(part, options) for part in parts}
    for part in parts:
        if part.kind == "labels" and (names := [n for n in baselines.named_in(part.rows) if n in config.baselines()]):
            results[part.split]["baselines"] = evaluation.beside(part, names, options)
    if config.compare is not None:
        others = rows_of_other(config, config.compare, context)
        for part in parts:
            results[part.split]["compare"] = evaluation.compared(parts, part, others, config.compare, options)
    if config.leakage is not None:
        for part in parts:
            hits = leakage.merge(scan(config, part, context))
            results[part.split]["leakage"] = evaluation.leaked(part, *hits, options)
    return evaluation.by_split(results), parts


def guess(config: Eval, part: Examples) -> Examples:
    """Let the baselines guess beside the model, where that is asked for or can be done."""
    lacking = [
        name for name in config.baselines() if part.kind != "labels" or name not in baselines.named_in(part.rows)
    ]
    if lacking and (config.baseline is not None or part.train is not None):
        return evaluation.with_baselines(part, lacking)
    return part


def rows_of_other(config: Eval, path: str, context: Context) -> Rows:
    """Read the other system's predictions, or ask the other model."""
    if not fingerprints.is_model(path):
        return predictions.read_predictions(path).rows
    if config.data is None:
        raise UsageError("--compare names a model, and there is no DATA to ask it about", "name its predictions")
    return [row for part in ask(config, path, context) for row in part.rows]


def scan(config: Eval, part: Examples, context: Context) -> Iterator[tuple[leakage.Hits, int]]:
    """Look for the texts of one part in the training data, on all processors."""
    if part.texts is None:
        raise DataError("--leakage needs the texts, and the predictions have no column 'text'", "name MODEL and DATA")
    assert config.leakage is not None
    reading = ReadOptions.from_config(config)
    executor = load_executor(config)
    looked = leakage.Scan(part.texts, reading)
    parts = training_data.parts(config.leakage, reading)
    for number, found in enumerate(executor.map(looked, parts), start=1):
        context.progress(number, len(parts), "training shards")
        context.stop.check("stopped")
        yield found


def job_of(config: Eval, path: str, choices: bool = False) -> Job:
    """Load a model and say what it is asked, and where."""
    from gptctl.evals.inference import predict as asking
    from gptctl.model import device
    from gptctl.model.files import checksummed
    from gptctl.model.files.locate import find_model

    folder = find_model(path)
    print_of = checksummed.model_fingerprint(folder)
    asked, _ = asking.load(str(folder), print_of)
    texts_wanted = all("texts" in plugins.load("gptctl.evals.metrics", name).KINDS for name in config.metrics)
    task = asking.task_of(asked, config.task, choices, texts_wanted)
    where = device.select_device(config.device)
    threads = device.cpu_threads(config.nproc_per_node)
    return asking.Job(str(folder), print_of, task, config.asking(), str(where), threads, device.configure_process)


def ask(config: Eval, path: str, context: Context) -> list[Examples]:
    """Ask a model, or all those of an ensemble, about each evaluation split of DATA."""
    if config.ensemble:
        return ensemble.averaged([ask_one(config, member, context) for member in ensemble.members(path)])
    return ask_one(config, path, context)


def ask_one(config: Eval, path: str, context: Context) -> list[Examples]:
    """Ask one model about each evaluation split of DATA."""
    from gptctl.evals.harness import task_export
    from gptctl.evals.inference import cache
    from gptctl.evals.inference import predict as asking

    data = config.data or ""
    splits = labelled_data.find_splits(data)
    first = next(iter(splits.named.values()), splits.whole or data)
    text_column = sniff.choices_beside(first, config.text_column)
    job = job_of(config, path, text_column is not None)
    if job.task == "choices":
        config = config.model_copy(update={"text_column": text_column or config.text_column})
    run: Callable[..., Iterator[Any]] = plugins.load("gptctl.executors", "processes").run
    kept = cache.folder_of(config.cache)
    trained_on = asking.load(job.folder, job.fingerprint)[1].get("data", {})
    train = None
    if job.task == "classify" and config.baselines():
        train = baselines.training_texts(config, data, config.label_column, trained_on)
    parts = []
    held_out = training_data.held_out(data, config.limit) if training_data.is_tokens(data) else None
    for split, table in held_out or labelled_data.evaluation_splits(config, data, trained_on):
        if config.emit_lm_eval_task:
            place = Path(config.emit_lm_eval_task)
            context.info(f"written: {task_export.write(place, split, table, job.task, config.asking())}")
        rows, told = asking.rows_of(job, table, run, config.nproc_per_node, kept, context)
        took = format_duration(told.model_seconds)
        context.info(f"{split}: {told.pieces:,} answers, {told.cached:,} known; the model took {took}")
        facts = asking.facts_of(job)
        kind = str(facts["rows"])
        found = predictions.Predictions([{"split": split, **row} for row in rows], {"rows": kind})
        part = evaluation.of_rows(found, config.metrics if kind == "texts" else (), f"{split} of {data}")[0]
        parts.append(replace(part, facts=facts, texts=tuple(asking.texts_of(table)), train=train))
    return parts


def run_harness(config: Eval) -> Values:
    """Run lm-eval's tasks."""
    import torch

    from gptctl.evals.harness import lm_eval
    from gptctl.evals.inference import predict as asking

    assert config.model is not None and config.harness is not None
    job = job_of(config.model_copy(update={"task": "lm"}), config.model)
    job.prepare(job.threads)
    asked, _ = asking.load(job.folder, job.fingerprint)
    return lm_eval.evaluate(config.harness, asked, job.settings, torch.device(job.device), config.limit, config.seed)


def judge(
    config: Eval, result: Values, parts: list[Examples], bars: list[Gate], old: Values | Rows | None
) -> list[Check]:
    """Hold the result against the gates."""
    checks = gates.check(result, bars)
    if old is None:
        return checks
    return checks + evaluation.no_regress(result, parts[-1] if parts else None, old, config.alpha, config.options())


def finish(
    config: Eval, context: Context, result: Values, parts: list[Examples], checks: list[Check], started: float
) -> Summary:
    """Show the figures, write the summaries for CI, list the gates that were missed."""
    for line in result.get("warnings", []):
        context.warn(line)
    if config.junit:
        atomic.write_text(Path(config.junit), junit.render(result, checks, time.monotonic() - started))
    if config.markdown:
        atomic.write_text(Path(config.markdown), markdown.render(result, checks))
    scored = sum(part["n"] for part in (result.get("splits") or {"": result}).values())
    counts = Counts(documents_in=scored, kept=scored)
    outputs = (config.out,) if config.out else ()
    shown, failure = tables.tables(result), gates.failure(checks)
    return Summary("eval", "done", outputs, counts, plain(result), tables=shown, failure=failure)


def write(config: Eval, out: Path, result: Values, parts: list[Examples], inputs: dict[str, str]) -> Manifest:
    """Write rows, metrics and the picture of the confusion matrix; give the manifest to write last."""
    from gptctl.reporting import plots

    rows = [row for part in parts for row in part.rows]
    kind = ROW_KINDS.get(parts[0].kind, "predictions") if parts else "harness"
    written = []
    if parts:
        facts = {"rows": parts[0].kind, "splits": {part.split: part.facts for part in parts}}
        written.append(shards.write_shard(out, "shards/part-00000.arrow", predictions.to_table(rows, kind, facts)))
    atomic.write_json(out / "metrics.json", result)
    if matrix := result.get("confusion"):
        picture = plots.confusion_matrix(matrix["labels"], matrix["matrix"], matrix["invalid"])
        atomic.write_bytes(out / "confusion.svg", picture)
    if found := result.get("leakage"):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found["rows"])
        atomic.write_text(out / "leakage.jsonl", lines)
    counts = Counts(documents_in=len(rows), kept=len(rows))
    return Manifest(kind, "eval", config.settings(), inputs, tuple(written), counts, result)
