"""Nats per token: the mean of -ln p(token), comparable for the same tokenizer only."""

from __future__ import annotations

import numpy as np

from gptctl.evals.scoring import averages
from gptctl.evals.scoring.averages import Floats

KINDS = ("nats",)
LOWER_IS_BETTER = True


def statistics(data: Floats) -> Floats:
    """Give each document's nats and tokens."""
    return data[:, [0, 2]]


def estimate(totals: Floats) -> Floats:
    """Return the quotient of the sums."""
    return averages.ratio(totals[..., 0], np.asarray(totals[..., 1]), "nan")
