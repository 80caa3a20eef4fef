"""What several trainings of one kind come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any


def mean_and_spread(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the mean of each figure that all runs have, and for scores NAME_sd, the standard deviation of a sample."""
    found: dict[str, float] = {}
    for name, value in runs[0].items():
        numbers = [run[name] for run in runs if isinstance(run.get(name), int | float)]
        if len(numbers) < len(runs):
            continue
        found[name] = value if len(set(numbers)) == 1 else fmean(numbers)
        if len(numbers) > 1 and name.startswith(("best_val_", "held_out_")):
            found[f"{name}_sd"] = stdev(numbers)
    return found
