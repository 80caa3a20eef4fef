"""Run tasks of lm-evaluation-harness on a model of ours, offline: `gptctl eval MODEL --harness DIR`.

DIR holds tasks as YAML files; their data files are named relative to it. The harness is an optional package, and is
told never to use the network. A task may name Python functions in files beside it, which it runs: like any program,
take tasks only from people you trust.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptctl.core.errors import DataError, GptctlError, MachineError, UsageError
from gptctl.evals.inference.loaded_model import Asked, Settings
from gptctl.evals.scoring.metric_results import Values
from gptctl.evals.stats.intervals import Z

if TYPE_CHECKING:
    import torch

RESAMPLES = 1000  # for standard errors that have no formula; its default of 100,000 takes minutes
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "DISABLE_MULTIPROC": "1",  # a pool of processes for the bootstrap of one small task takes longer than the task
}


def evaluate(folder: str, asked: Asked, settings: Settings, device: torch.device, limit: int, seed: int) -> Values:
    """Give every metric of every task as "task/metric", with 95 % intervals from the harness's standard errors.

    Raises UsageError (2) for a folder that is not there, MachineError (4) if the harness is not installed, DataError
    (3) where the folder holds no task or a task fails.
    """
    place = Path(folder).resolve()
    if not place.is_dir():
        raise UsageError(f"no such folder of tasks: {folder}", "--harness takes a folder of lm-eval's task YAML files")
    os.environ.update(ENVIRONMENT)
    with tempfile.TemporaryDirectory(prefix="gptctl-harness-") as scratch, contextlib.chdir(place):
        os.environ["HF_DATASETS_CACHE"] = scratch
        try:
            from gptctl.evals.harness.model import HarnessModel
        except ModuleNotFoundError as error:
            raise MachineError(
                f"--harness needs lm-eval, and {error.name} is not installed", "pip install 'gptctl[lm-eval]'"
            ) from error
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        spoken = io.StringIO()  # bars that it cannot be told to leave out, and what tasks print
        try:
            with contextlib.redirect_stderr(spoken), contextlib.redirect_stdout(spoken):
                found = run_folder(place, HarnessModel(asked, settings, device), limit, seed)
        except GptctlError:
            raise
        except Exception as error:  # a task is a program: what it raises is not ours to list
            words = " ".join(str(error).split())[:200]
            raise DataError(
                f"lm-eval failed: {type(error).__name__}: {words}", "check the tasks and their data files; see --debug"
            ) from error
    return summarise(found)


def run_folder(place: Path, model: Any, limit: int, seed: int) -> Values:
    """Run all tasks of a folder. Raises DataError (3) if there is none."""
    from lm_eval.evaluator import evaluate as run_tasks
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(place), include_defaults=False)
    if not manager.all_tasks:
        raise DataError(f"{place} holds no task of lm-eval", "a task is a YAML file; see the harness's guide")
    loaded = manager.load(list(manager.all_tasks))
    # what simple_evaluate does too, besides describing this machine, which takes seconds
    for task in loaded["tasks"].values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=seed)
    return dict(
        run_tasks(lm=model, task_dict=loaded, limit=limit or None, bootstrap_iters=RESAMPLES, log_samples=False)
    )


def summarise(found: Values) -> Values:
    """Flatten the harness's results."""
    metrics: Values = {}
    intervals: Values = {}
    rows = 0
    for task, results in sorted(found["results"].items()):
        rows += int((found.get("n-samples", {}).get(task) or {}).get("effective", 0))
        for name, value in results.items():
            metric, _, filtered = name.partition(",")
            if not isinstance(value, int | float) or metric.endswith("_stderr") or name == "sample_len":
                continue
            shown = f"{task}/{metric}" if filtered in ("", "none") else f"{task}/{metric}/{filtered}"
            metrics[shown] = float(value)
            error = results.get(f"{metric}_stderr,{filtered}")
            if isinstance(error, int | float):
                intervals[shown] = [float(value - Z * error), float(value + Z * error)]
    about = {"level": 0.95, "methods": dict.fromkeys(intervals, "standard error"), "resamples": RESAMPLES}
    return {"n": rows, **metrics, "tasks": sorted(found["results"]), "intervals": intervals, "interval": about}
