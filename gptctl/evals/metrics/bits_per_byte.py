"""Bits needed per byte of UTF-8 text, comparable across tokenizers.

Both sums run over all documents: the mean of the documents' own ratios is another, wrong number.
"""

from __future__ import annotations

import math

import numpy as np

from gptctl.evals.scoring import averages
from gptctl.evals.scoring.averages import Floats

KINDS = ("nats",)
LOWER_IS_BETTER = True


def statistics(data: Floats) -> Floats:
    """Give each document's nats and bytes."""
    return data[:, :2]


def estimate(totals: Floats) -> Floats:
    """Return the quotient of the sums, in bits."""
    return averages.ratio(totals[..., 0], np.asarray(math.log(2) * totals[..., 1]), "nan")
