"""Calibration: of all predictions made with probability 0.8, eight in ten should be correct."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gptctl.core.errors import DataError
from gptctl.evals.array_types import BoolArray, FloatArray, IntArray
from gptctl.evals.scoring.confusion import label_texts
from gptctl.evals.scoring.options import ScoringOptions
from gptctl.evals.stats.intervals import wilson
from gptctl.io.input.predictions import Rows

SUM_TOLERANCE = 0.02  # how far probabilities may sum from 1: two printed digits each, and bf16


@dataclass(frozen=True, eq=False)
class Probabilities:
    """Each row's probabilities (N, L), the index of its gold label (N,), and the number of calibration bins."""

    probs: FloatArray
    gold: IntArray
    bins: int

    def bin_indices(self) -> IntArray:
        """Return the bin of each row's highest probability; bin b holds those in (b / bins, (b + 1) / bins]."""
        bounds = np.linspace(0, 1, self.bins + 1)
        return np.asarray(np.clip(np.searchsorted(bounds, self.probs.max(axis=1)) - 1, 0, self.bins - 1), np.int64)

    def correct(self) -> BoolArray:
        """Return for each row whether its most probable label is the gold one; the first of equals counts."""
        return np.asarray(self.probs.argmax(axis=1) == self.gold)


def collect_probabilities(rows: Rows, options: ScoringOptions, labels: Sequence[str]) -> Probabilities:
    """Read the probabilities of the rows. Raises DataError if their number differs from that of the labels."""
    order = probability_labels(rows, options, labels)
    index_of = {label: index for index, label in enumerate(order)}
    gold = [index_of.get(str(text), -1) for text in label_texts([row["label"] for row in rows])]
    if -1 in gold:
        row = gold.index(-1)
        raise DataError(
            f"row {row + 1}: no probability is given for the label '{rows[row]['label']}'",
            "name the labels in the order of probs with --labels a,b,c",
        )
    return Probabilities(np.array([row["probs"] for row in rows], np.float64), np.array(gold, np.int64), options.bins)


def probability_labels(rows: Rows, options: ScoringOptions, labels: Sequence[str]) -> Sequence[str]:
    """Return the label of each entry of `probs`: as the model orders them, else as `labels`."""
    order = options.probability_labels or labels
    for number, row in enumerate(rows, start=1):
        if row.get("probs") is not None and len(row["probs"]) != len(order):
            raise DataError(
                f"row {number}: {len(row['probs'])} probabilities for {len(order)} labels",
                "name all labels in the order of probs with --labels a,b,c",
            )
    return order


def reliability_bins(data: Probabilities) -> list[dict[str, Any]]:
    """Return each bin that holds a row: its bounds, its rows, their mean probability, their accuracy and its interval.

    The interval (Wilson 1927) shows how little a bin with few rows says.
    """
    bins, confidence, correct = data.bin_indices(), data.probs.max(axis=1), data.correct()
    found = []
    for number in range(data.bins):
        inside = bins == number
        if inside.any():
            found.append(
                {
                    "low": number / data.bins,
                    "high": (number + 1) / data.bins,
                    "n": int(inside.sum()),
                    "confidence": float(confidence[inside].mean()),
                    "accuracy": float(correct[inside].mean()),
                    "interval": list(wilson(int(correct[inside].sum()), int(inside.sum()))),
                }
            )
    return found
