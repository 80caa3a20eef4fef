"""Score a model, or any system's predictions: accuracy, precision, recall, F1 with intervals; bits per byte."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from gptctl.core import atomic
from gptctl.core.config import Values, argument, flag, output, plain
from gptctl.core.context import Context
from gptctl.core.errors import UsageError, memory_hint
from gptctl.core.summary import Counts, Summary
from gptctl.evals import evaluation
from gptctl.evals import metrics as metric_plugins
from gptctl.evals.comparison import baselines, gates, regressions
from gptctl.evals.config import EvalOptions
from gptctl.evals.dataset_predictor import DatasetPredictor, EvaluationData, check_read_once, other_system, resolve
from gptctl.evals.evaluation import Comparisons, Evaluation
from gptctl.evals.fingerprints import fingerprints_of, is_model
from gptctl.evals.harness import lm_eval
from gptctl.evals.inference import ensemble
from gptctl.evals.inference.cache import OutputCache
from gptctl.evals.leakage import LeakageSearch
from gptctl.evals.output import files, junit, markdown, tables
from gptctl.evals.scoring.report import Report
from gptctl.evals.scoring.split_predictions import read_splits
from gptctl.executors import Executor, load_executor, processes
from gptctl.io.dataset.manifest import Manifest
from gptctl.io.input.blocks import ReadOptions, Tolerance
from gptctl.io.input.find import find_files
from gptctl.io.input.predictions import Rows
from gptctl.pipeline.open_output import open_output

EXAMPLES = (
    "gptctl eval classifier labelled --metrics f1",
    "gptctl eval classifier labelled/test.jsonl -o scores --fail-under f1=0.1 --json",
    "gptctl eval --predictions scores --average weighted",
)


class Eval(EvalOptions):
    """Evaluate a model on the val and test splits of DATA, or score a file of predictions.

    A classifier gets accuracy, precision, recall and F1, also per class, with 95 % intervals. A language model gets
    perplexity and bits per byte, or the accuracy of multiple choice. The scores at the top of --json are those of the
    last split, which is test if there is one.
    """

    model: str | None = argument(None, "MODEL", "A run, a checkpoint, a model folder, or hf://OWNER/MODEL.")
    data: str | None = argument(None, "DATA", "File or folder with the texts, or tokens.")
    predictions: str | None = flag(
        None, "Score this file of id, label, pred instead; - reads JSON lines.",
        metavar="FILE", panel="Input", runtime=True, reads=True,
    )  # fmt: skip
    harness: str | None = flag(
        None, "Run the lm-eval tasks in this folder instead.", metavar="DIR", panel="Input", runtime=True, reads=True
    )
    out: str | None = output(None, "Folder or URI for predictions and metrics.")
    junit: str | None = flag(None, "File for JUnit XML.", metavar="FILE", panel="Output", runtime=True)
    markdown: str | None = flag(None, "File for a summary in Markdown.", metavar="FILE", panel="Output", runtime=True)

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        return super().without_effect() | self.unused_keys(bool(self.predictions and not self.data), bool(self.harness))


def plan(config: Eval, context: Context) -> Summary:
    """Open everything that is read, without running a model; return what would be scored."""
    validate(config)
    regressions.read_earlier(config.no_regress, ReadOptions.from_config(config))
    on = f"{config.model} on {config.data or config.harness}"
    what = f"predictions {config.predictions}" if config.predictions else on
    facts: Values = {"metrics": list(config.metrics), "average": config.average, "what": what}
    if config.predictions not in (None, "-"):
        compare = None if config.compare and is_model(config.compare) else config.compare
        scored = evaluate(config.model_copy(update={"leakage": None, "compare": compare}), context)
        facts["rows"] = {one.split: len(one.rows) for one in scored.splits}
    if config.model and (predictor := predictor_for(config, context)):
        facts["requests"] = predictor.count_requests(config.model)
    if config.harness and config.model:
        resolve(config.model, replace(config.inference_setup(config.wants_texts()), task="lm"), context)
        lm_eval.check(config.harness)
    for path in filter(None, (config.compare, config.leakage)):
        find_files(path)
    return Summary("eval", "planned", (config.out,) if config.out else (), plan=facts)


@memory_hint("use --set batch_size=1 or --device cpu")
def run(config: Eval, context: Context | None = None) -> Summary:
    """Evaluate, and write predictions and metrics if -o was given. A missed gate makes the summary a failure."""
    context, started = context or Context(), time.monotonic()
    validate(config)
    earlier = regressions.read_earlier(config.no_regress, ReadOptions.from_config(config))
    if config.out is None:
        return summarize(config, context, evaluate(config, context), earlier, started)
    with open_output(config.out, config, context, partial(input_fingerprints, config)) as record:
        if record.up_to_date:
            splits = read_splits(config.out, config.metrics) if isinstance(earlier, list) else []
            evaluated = Evaluation(record.previous_summary().metrics, splits)
            return replace(summarize(config, context, evaluated, earlier, started), status="up to date")
        evaluated = evaluate(config, context)
        summary = summarize(config, context, evaluated, earlier, started)
        return record.finish(summary, write(config, record.path, evaluated, record.record["inputs"], context))


def validate(config: Eval) -> None:
    """Raise UsageError (2) for a command that names nothing, or too much, to score."""
    if (config.predictions is None) == (config.model is None):
        raise UsageError(
            "name either MODEL and DATA, or --predictions", "gptctl eval MODEL DATA, or gptctl eval --predictions FILE"
        )
    if config.model is not None and (config.data is None) == (config.harness is None):
        raise UsageError("name either DATA or --harness", "gptctl eval MODEL DATA, or gptctl eval MODEL --harness DIR")
    if "-" in (config.predictions, config.data):
        check_read_once(config.out, config.compare, config.leakage, config.ensemble)
    metric_plugins.check(config.metrics)
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
        assert config.model is not None
        spec = resolve(config.model, replace(config.inference_setup(config.wants_texts()), task="lm"), context)
        return Evaluation(lm_eval.evaluate(config.harness, spec, limit=config.limit, seed=config.seed), [])
    predictor = predictor_for(config, context)
    if config.predictions is not None:
        splits = read_splits(config.predictions, config.metrics, ReadOptions.from_config(config))
    else:
        assert config.model is not None and predictor is not None
        splits = predictor.predict(config.model)
    reading, executor = ReadOptions.from_config(config), load_executor(config)
    tolerance = Tolerance.from_config(config)
    comparisons = Comparisons(
        baselines=config.baseline_names(),
        require_baselines=config.baseline is not None,
        other=other_system(config.compare, predictor, reading) if config.compare else None,
        name=config.predictions or config.model or "",
        leakage=LeakageSearch(config.leakage, reading, executor, tolerance) if config.leakage else None,
    )
    return evaluation.evaluate(splits, config.scoring_options(), comparisons, context)


def predictor_for(config: Eval, context: Context) -> DatasetPredictor | None:
    """Return what runs models on DATA, or None if only predictions are scored."""
    if config.data is None:
        return None
    with_training = bool(config.baseline_names())
    data = EvaluationData(config.data, config, config.metrics, with_training, config.export_folder())
    executor = Executor(processes.run, config.nproc_per_node)
    cache = OutputCache(OutputCache.folder_of(config.cache), context.warn)
    setup = config.inference_setup(config.wants_texts())
    return DatasetPredictor(data, setup, executor, cache, context, config.ensemble)


def summarize(
    config: Eval, context: Context, evaluated: Evaluation, earlier: Report | Rows | None, started: float
) -> Summary:
    """Check the gates, write the files for CI, and return the summary."""
    report = evaluated.report
    results = gates.check_gates(report, config.gates())
    if earlier is not None:
        results += evaluation.check_regressions(evaluated, earlier, config.alpha, config.scoring_options())
    for line in report.get("warnings", []):
        context.warn(line)
    if config.junit:
        atomic.write_text(Path(config.junit), junit.render(report, results, time.monotonic() - started))
    if config.markdown:
        atomic.write_text(Path(config.markdown), markdown.render(report, results))
    rows = sum(split["n"] for split in (report.get("splits") or {"": report}).values())
    done = Summary("eval", "done", (config.out,) if config.out else (), Counts(documents_in=rows, kept=rows))
    return replace(done, metrics=plain(report), tables=tables.report_tables(report), failure=gates.failure(results))


def write(config: Eval, folder: Path, evaluated: Evaluation, inputs: dict[str, str], context: Context) -> Manifest:
    """Write predictions, metrics and the pictures of the confusion matrix; return the manifest to write last."""
    from gptctl.reporting import confusion_pictures

    shards = files.write(folder, evaluated)
    confusion_pictures.write(folder, evaluated.report, context)
    rows = sum(len(split.rows) for split in evaluated.splits)
    kind, counts = files.dataset_kind(evaluated), Counts(documents_in=rows, kept=rows)
    return Manifest(kind, "eval", config.settings(), inputs, shards, counts, evaluated.report)
