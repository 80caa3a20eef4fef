"""McNemar's test."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from gptctl.evals.stats.mcnemar import mcnemar


@pytest.mark.parametrize(("b", "c"), [(7, 0), (26, 12), (1, 1), (0, 1), (500, 530), (3000, 3300), (100_000, 100_500)])
def test_mcnemar_is_the_exact_binomial_test(b: int, c: int) -> None:
    assert mcnemar(b, c) == pytest.approx(binomtest(b, b + c).pvalue, rel=1e-7)
    assert mcnemar(b, c) == mcnemar(c, b)
