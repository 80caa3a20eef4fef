"""Run tasks of lm-evaluation-harness on a model, offline: `gptctl eval MODEL --harness DIR`.

DIR holds tasks as YAML files, whose data files are named relative to DIR. The harness is an optional package and is
told not to use the network. A task may name Python functions in files beside it, which the harness runs. Like any
program, take tasks only from people you trust.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gptctl.core.errors import DataError, GptctlError, UsageError
from gptctl.core.extras import missing, require
from gptctl.evals.inference.worker import InferenceSpec, configure_once
from gptctl.evals.scoring.report import Report
from gptctl.evals.stats.intervals import Z

RESAMPLES = 1000  # for standard errors without a formula; the harness's default of 100,000 takes minutes
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "DISABLE_MULTIPROC": "1",  # starting processes for the bootstrap of a small task takes longer than the task
}


def check(folder: str) -> Path:
    """Return the folder of tasks. Raises UsageError (2) if there is none, MachineError (4) if lm-eval is missing."""
    tasks = Path(folder).resolve()
    if not tasks.is_dir():
        raise UsageError(f"no such folder of tasks: {folder}", "--harness takes a folder of lm-eval's task YAML files")
    os.environ.update(ENVIRONMENT)
    require("lm_eval")
    return tasks


def evaluate(folder: str, spec: InferenceSpec, *, limit: int, seed: int) -> Report:
    """Return each metric of each task as "task/metric", with 95 % intervals from the harness's standard errors.

    Raises UsageError (2) for a missing folder, MachineError (4) if the harness is not installed, DataError (3) if the
    folder has no task or a task fails.
    """
    tasks = check(folder)
    configure_once(spec.threads)
    with tempfile.TemporaryDirectory(prefix="gptctl-harness-") as scratch, contextlib.chdir(tasks):
        os.environ["HF_DATASETS_CACHE"] = scratch
        try:
            from gptctl.evals.harness.harness_model import HarnessModel
        except ImportError as error:
            raise missing("lm_eval", error) from error
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        ignored = io.StringIO()  # progress bars that cannot be switched off, and what tasks print
        try:
            with contextlib.redirect_stderr(ignored), contextlib.redirect_stdout(ignored):
                results = run_tasks(tasks, HarnessModel(spec), limit, seed)
        except GptctlError:
            raise
        except Exception as error:  # a task is a program and may raise anything
            message = " ".join(str(error).split())[:200]
            raise DataError(
                f"lm-eval failed: {type(error).__name__}: {message}",
                "check the tasks and their data files; --debug shows more",
            ) from error
    return to_report(results)


def run_tasks(folder: Path, model: Any, limit: int, seed: int) -> dict[str, Any]:
    """Run all tasks of a folder and return lm-eval's results. Raises DataError (3) if there is no task."""
    from lm_eval.evaluator import evaluate as evaluate_tasks
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(folder), include_defaults=False)
    if not manager.all_tasks:
        raise DataError(f"{folder} has no task of lm-eval", "a task is a YAML file; see the guide of lm-eval")
    loaded = manager.load(list(manager.all_tasks))
    # as simple_evaluate does, which also collects a description of this machine and takes seconds for it
    for task in loaded["tasks"].values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=seed)
    return dict(
        evaluate_tasks(lm=model, task_dict=loaded, limit=limit or None, bootstrap_iters=RESAMPLES, log_samples=False)
    )


def to_report(results: Mapping[str, Any]) -> Report:
    """Convert the results of lm-eval into a report."""
    metrics: dict[str, float] = {}
    intervals: dict[str, list[float]] = {}
    rows = 0
    for task, values in sorted(results["results"].items()):
        rows += int((results.get("n-samples", {}).get(task) or {}).get("effective", 0))
        for name, value in values.items():
            metric, _, filter_name = name.partition(",")
            if not isinstance(value, int | float) or metric.endswith("_stderr") or name == "sample_len":
                continue
            reported = f"{task}/{metric}" if filter_name in ("", "none") else f"{task}/{metric}/{filter_name}"
            metrics[reported] = float(value)
            error = values.get(f"{metric}_stderr,{filter_name}")
            if isinstance(error, int | float):
                intervals[reported] = [float(value - Z * error), float(value + Z * error)]
    about = {"level": 0.95, "methods": dict.fromkeys(intervals, "standard error"), "resamples": RESAMPLES}
    return {"n": rows, **metrics, "tasks": sorted(results["results"]), "intervals": intervals, "interval": about}
