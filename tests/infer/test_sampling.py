"""Sampling: against the distribution it should follow, filter by filter."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare

from gptctl.infer.sampling import Sampling, generators, probabilities, sample

LOGITS = torch.tensor([[2.0, 1.0, 0.5, 0.0, -1.0, -1.5]])


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.7),
        Sampling(top_k=3),
        Sampling(top_p=0.8),
        Sampling(min_p=0.2, temperature=2.0),
    ],
)
def test_draws_follow_the_distribution(sampling: Sampling) -> None:
    """Chi-square over 20,000 draws from 20,000 rows' own generators."""
    rows = 20_000
    drawn = sample(LOGITS.expand(rows, -1), sampling, generators(0, range(rows)))
    wanted = probabilities(LOGITS, sampling)[0].double()
    kept = wanted > 0
    counts = torch.bincount(drawn, minlength=6)
    assert not counts[~kept].any()
    assert chisquare(counts[kept].numpy(), (wanted[kept] / wanted[kept].sum() * rows).numpy()).pvalue > 1e-3


def test_plain_sampling_is_softmax() -> None:
    """No filter, no change; temperature divides the logits."""
    torch.testing.assert_close(probabilities(LOGITS, Sampling()), LOGITS.softmax(-1))
    torch.testing.assert_close(probabilities(LOGITS, Sampling(temperature=0.5)), (LOGITS * 2).softmax(-1))


def test_filters_keep_what_they_should() -> None:
    """Which tokens stay, from the definitions."""
    chances = LOGITS.softmax(-1)[0].tolist()  # 0.56, 0.21, 0.13, 0.08, 0.03, 0.02

    def stay(**settings: float) -> list[int]:
        return probabilities(LOGITS, Sampling(**settings)).nonzero()[:, 1].tolist()  # type: ignore[arg-type]

    assert stay(top_k=2) == [0, 1]
    assert stay(top_k=50) == [0, 1, 2, 3, 4, 5]
    assert stay(top_p=chances[0] + 0.01) == [0, 1]
    assert stay(top_p=chances[0] - 0.01) == [0]
    assert stay(top_p=1e-9) == [0]
    assert stay(min_p=0.2) == [i for i, p in enumerate(chances) if p >= 0.2 * chances[0]]


def test_temperature_zero_is_greedy() -> None:
    """The likeliest, the lowest id among equals."""
    assert sample(torch.tensor([[0.0, 3.0, 3.0]]), Sampling(temperature=0), generators(0, range(1))).tolist() == [1]


def test_rows_have_their_own_numbers() -> None:
    """A row draws the same whoever stands beside it."""
    logits = torch.randn(5, 50)
    together = sample(logits, Sampling(), generators(3, range(5)))
    alone = [sample(logits[i : i + 1], Sampling(), generators(3, [i])).item() for i in range(5)]
    assert together.tolist() == alone
