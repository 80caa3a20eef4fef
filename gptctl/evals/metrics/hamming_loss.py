"""The share of wrong answers among all questions "does this row have this label?"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gptctl.evals.scoring.averages import Floats

if TYPE_CHECKING:
    from gptctl.evals.prediction_types.label_sets import LabelSets

KINDS = ("label_sets",)
LOWER_IS_BETTER = True


def statistics(data: LabelSets) -> Floats:
    """Give each row's wrong answers and questions."""
    wrong = (data.gold != data.pred).sum(axis=1)
    return np.stack((wrong, np.full(len(wrong), len(data.labels))), axis=1).astype(np.float64)


def estimate(totals: Floats) -> Floats:
    """Return the share; 0 where there is no label at all."""
    return np.asarray(totals[..., 0] / np.maximum(totals[..., 1], 1))
