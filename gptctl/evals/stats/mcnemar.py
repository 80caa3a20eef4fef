"""McNemar's test: do two systems that answered the same rows differ in how many they get right? (McNemar 1947)"""

from __future__ import annotations

import numpy as np


def mcnemar(b: int, c: int) -> float:
    """Return the exact two-sided p-value of b and c rows that only the first or only the second system got right.

    It is the binomial form of the test: the probability that a fair coin splits b + c rows at least as unequally.
    b + c = 0 returns 1, since no row distinguishes the systems.
    """
    n, least = b + c, min(b, c)
    if n == 0:
        return 1.0
    # ln C(n, i) for i = 0..least, summed as logarithms: C(n, i) itself exceeds the range of floats at n = 1,030
    steps = np.arange(1, least + 1, dtype=np.float64)
    logs = np.concatenate(([0.0], np.cumsum(np.log((n - steps + 1) / steps)))) - n * np.log(2.0)
    return float(min(1.0, 2 * np.exp(np.logaddexp.reduce(logs))))
