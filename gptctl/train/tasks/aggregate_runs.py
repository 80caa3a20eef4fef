"""The metrics of several trainings that differ in their seed or their held-out fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

Metrics = Mapping[str, Any]


def best_run(runs: Mapping[str, Metrics], select_on: str) -> str:
    """Return the name of the run with the best value of a metric on val."""
    name = f"best_val_{select_on}"
    choose = min if select_on == "loss" else max
    return choose(runs, key=lambda run: runs[run][name])


def mean_and_deviation(runs: Sequence[Metrics]) -> dict[str, float]:
    """Return the mean of each metric that all runs have, and for scores NAME_sd, the sample standard deviation."""
    found: dict[str, float] = {}
    for name, value in runs[0].items():
        numbers = [run[name] for run in runs if isinstance(run.get(name), int | float)]
        if len(numbers) < len(runs):
            continue
        found[name] = value if len(set(numbers)) == 1 else fmean(numbers)
        if len(numbers) > 1 and name.startswith(("best_val_", "held_out_")):
            found[f"{name}_sd"] = stdev(numbers)
    return found
