"""Which document stays of each group of duplicates."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Keep = Literal["first", "longest"]


def choose(labels: NDArray[np.int64], lengths: NDArray[np.int64], keep: Keep) -> NDArray[np.bool_]:
    """Mark one document of each label: the first in the input's order, or the longest, the first of equals."""
    order = np.arange(len(labels))
    ranked = np.lexsort((order, labels)) if keep == "first" else np.lexsort((order, -lengths.astype(np.int64), labels))
    best = np.ones(len(labels), np.bool_)
    best[1:] = labels[ranked][1:] != labels[ranked][:-1]
    stays = np.zeros(len(labels), np.bool_)
    stays[ranked[best]] = True
    return stays
