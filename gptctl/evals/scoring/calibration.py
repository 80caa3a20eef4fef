"""Whether probabilities mean what they say: of all answers given with 0.8, eight in ten should be right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gptctl.core.errors import DataError
from gptctl.evals.scoring import confusion
from gptctl.evals.scoring.averages import Floats
from gptctl.evals.scoring.confusion import Integers
from gptctl.evals.scoring.metric_results import Rows, Values
from gptctl.evals.scoring.options import Options

TOLERANCE = 0.02  # by which probabilities may miss a sum of 1: two printed digits each, and bf16


@dataclass(frozen=True, eq=False)
class Probabilities:
    """Each row's probabilities (N, L), the place of its gold label (N,), and how many bins they are put into."""

    probs: Floats
    gold: Integers
    bins: int

    def bin_of(self) -> Integers:
        """Return the bin of each row's highest probability; bin b holds those in (b / bins, (b + 1) / bins]."""
        bounds = np.linspace(0, 1, self.bins + 1)
        return np.asarray(np.clip(np.searchsorted(bounds, self.probs.max(axis=1)) - 1, 0, self.bins - 1), np.int64)

    def right(self) -> npt.NDArray[np.bool_]:
        """Tell which rows' likeliest label is the gold one; of equals the first counts."""
        return np.asarray(self.probs.argmax(axis=1) == self.gold)


def collect(rows: Rows, options: Options, labels: Sequence[str]) -> Probabilities:
    """Take the probabilities out of the rows. Raises DataError where their number is not that of the labels."""
    order = order_of(rows, options, labels)
    place = {label: index for index, label in enumerate(order)}
    gold = [place.get(str(text), -1) for text in confusion.as_texts([row["label"] for row in rows])]
    if -1 in gold:
        row = gold.index(-1)
        raise DataError(
            f"row {row + 1}: no probability is given for the label '{rows[row]['label']}'",
            "name the labels in the order of probs with --labels a,b,c",
        )
    return Probabilities(np.array([row["probs"] for row in rows], np.float64), np.array(gold, np.int64), options.bins)


def order_of(rows: Rows, options: Options, labels: Sequence[str]) -> Sequence[str]:
    """Say whose probability stands where: as the model has it, as --labels names them, or sorted."""
    order = options.probability_labels or labels
    for number, row in enumerate(rows, start=1):
        if row.get("probs") is not None and len(row["probs"]) != len(order):
            raise DataError(
                f"row {number}: {len(row['probs'])} probabilities for {len(order)} labels",
                "name all labels in the order of probs with --labels a,b,c",
            )
    return order


def bins_of(data: Probabilities) -> list[Values]:
    """Give each bin that holds a row: its bounds, its rows, their mean probability and accuracy."""
    place, top, right = data.bin_of(), data.probs.max(axis=1), data.right()
    found = []
    for number in range(data.bins):
        inside = place == number
        if inside.any():
            found.append(
                {
                    "low": number / data.bins,
                    "high": (number + 1) / data.bins,
                    "n": int(inside.sum()),
                    "confidence": float(top[inside].mean()),
                    "accuracy": float(right[inside].mean()),
                }
            )
    return found
