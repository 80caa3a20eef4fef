"""What several trainings of one kind come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any


def mean_and_spread(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Give the mean of each figure that all runs have, and for scores NAME_sd, the standard deviation of a sample."""
    found: dict[str, float] = {}
    for name, value in runs[0].items():
        values = [run.get(name) for run in runs]
        if isinstance(value, bool) or not all(isinstance(each, int | float) for each in values):
            continue
        numbers = [float(each) for each in values if each is not None]
        found[name] = int(value) if len(set(numbers)) == 1 and isinstance(value, int) else fmean(numbers)
        if len(numbers) > 1 and name.startswith(("best_val_", "held_out_")):
            found[f"{name}_sd"] = stdev(numbers)
    return found
