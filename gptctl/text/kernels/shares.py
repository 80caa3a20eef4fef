"""Assign samples to sources so that each source has its exact share of any number of samples."""

from __future__ import annotations

from typing import Any

import numpy as np

from gptctl.text.kernels.compile import COUNTS, NUMBER, OFFSETS, compiled


@compiled(OFFSETS, NUMBER, COUNTS, COUNTS)
def assign_samples(weights: Any, first: Any, taken: Any, chosen: Any) -> None:
    """Write the source of each sample from `first` on into `chosen`, and count it in `taken`.

    `weights` are whole numbers. `taken` holds how many of the first `first` samples each source has. Their number is
    less than the sum of the weights.

    Source s with the share p may have its sample number j as soon as it would otherwise have fewer than ceil(n p) of n
    samples, and must have it before it would have fewer than floor(n p). These are the windows of Baruah, Cohen,
    Plaxton and Varvel 1996, "Proportionate Progress", Algorithmica 15. Earliest deadline first meets all of them.
    """
    total = weights.sum()
    opens, closes = np.zeros(weights.size, np.int64), np.zeros(weights.size, np.int64)  # of the next sample, from 1
    for source in range(weights.size):
        if weights[source]:
            opens[source] = taken[source] * total // weights[source] + 1
            closes[source] = ((taken[source] + 1) * total - 1) // weights[source] + 1
    for place in range(chosen.size):
        sample = first + place + 1
        best = -1
        for source in range(weights.size):
            if 0 < opens[source] <= sample and (best < 0 or closes[source] < closes[best]):
                best = source
        chosen[place] = best
        taken[best] += 1
        opens[best] = taken[best] * total // weights[best] + 1
        closes[best] = ((taken[best] + 1) * total - 1) // weights[best] + 1
