"""SamplingParams: against the distribution it should follow, filter by filter."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare, kstest

from gptctl.infer.sampling import (
    RandomNumbers,
    SamplingParams,
    apply_repetition_penalty,
    sample_tokens,
    sampling_distribution,
    top_p_filter,
)

LOGITS = torch.tensor([[2.0, 1.0, 0.5, 0.0, -1.0, -1.5]])


def numbers(seed: int, rows: range) -> torch.Tensor:
    """Return the first number of some rows."""
    return torch.tensor([RandomNumbers(seed, row).peek() for row in rows], dtype=torch.float64)


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(),
        SamplingParams(temperature=0.7),
        SamplingParams(top_k=3),
        SamplingParams(top_p=0.8),
        SamplingParams(min_p=0.2, temperature=2.0),
    ],
)
def test_draws_follow_the_distribution(sampling: SamplingParams) -> None:
    """Chi-square over 20,000 draws from 20,000 rows' own generators."""
    rows = 20_000
    drawn = sample_tokens(LOGITS.expand(rows, -1), sampling, numbers(0, range(rows)))
    wanted = sampling_distribution(LOGITS, sampling)[0].double()
    kept = wanted > 0
    counts = torch.bincount(drawn, minlength=6)
    assert not counts[~kept].any()
    assert chisquare(counts[kept].numpy(), (wanted[kept] / wanted[kept].sum() * rows).numpy()).pvalue > 1e-3


def test_plain_sampling_is_softmax() -> None:
    """No filter, no change; temperature divides the logits."""
    torch.testing.assert_close(sampling_distribution(LOGITS, SamplingParams()), LOGITS.softmax(-1))
    torch.testing.assert_close(sampling_distribution(LOGITS, SamplingParams(temperature=0.5)), (LOGITS * 2).softmax(-1))


def test_filters_keep_what_they_should() -> None:
    """Which tokens stay, from the definitions."""
    chances = LOGITS.softmax(-1)[0].tolist()  # 0.56, 0.21, 0.13, 0.08, 0.03, 0.02

    def stay(**settings: float) -> list[int]:
        return sampling_distribution(LOGITS, SamplingParams(**settings)).nonzero()[:, 1].tolist()  # type: ignore[arg-type]

    assert stay(top_k=2) == [0, 1]
    assert stay(top_k=50) == [0, 1, 2, 3, 4, 5]
    assert stay(top_p=chances[0] + 0.01) == [0, 1]
    assert stay(top_p=chances[0] - 0.01) == [0]
    assert stay(top_p=1e-9) == [0]
    assert stay(min_p=0.2) == [i for i, p in enumerate(chances) if p >= 0.2 * chances[0]]


def test_temperature_zero_is_greedy() -> None:
    """The likeliest, the lowest id among equals."""
    assert sample_tokens(torch.tensor([[0.0, 3.0, 3.0]]), SamplingParams(temperature=0), torch.empty(0)).tolist() == [1]


def test_rows_have_their_own_numbers() -> None:
    """A row draws the same whoever stands beside it."""
    logits = torch.randn(5, 50)
    together = sample_tokens(logits, SamplingParams(), numbers(3, range(5)))
    alone = [sample_tokens(logits[i : i + 1], SamplingParams(), numbers(3, range(i, i + 1))).item() for i in range(5)]
    assert together.tolist() == alone


def test_numbers_that_were_looked_at_are_still_there() -> None:
    """Looking ahead uses nothing up; a row's numbers are uniform."""
    draws, again = RandomNumbers(1, 7), RandomNumbers(1, 7)
    ahead = [draws.peek(i) for i in range(200)]
    taken = []
    for _ in range(200):
        taken.append(again.peek())
        again.advance()
    assert taken == ahead
    assert kstest(ahead, "uniform").pvalue > 1e-3


def test_top_k_of_a_large_vocabulary_is_the_same_drawn_from_all() -> None:
    """The short way gives the tokens of the definition."""
    logits, sampling = torch.randn(200, 1000), SamplingParams(top_k=20, top_p=0.9)
    drawn = sample_tokens(logits, sampling, numbers(5, range(200)))
    heights = sampling_distribution(logits, sampling).double().cumsum(-1)
    wanted = torch.searchsorted(heights, numbers(5, range(200))[:, None] * heights[:, -1:])[:, 0]
    assert (drawn == wanted).float().mean() > 0.99  # but where a number falls on an edge


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_top_p_of_a_large_vocabulary(spread: float) -> None:
    """The sum of what stays reaches p, and does not without the least of it; the likeliest first."""
    chances = (spread * torch.randn(3, 20_000)).softmax(-1)
    kept = top_p_filter(chances, 0.9)
    for before, after in zip(chances.double(), kept.double(), strict=True):
        stays = after > 0
        assert torch.equal(before[stays], after[stays])
        assert after.sum() >= 0.9 - 1e-4
        assert after.sum() - after[stays].min() < 0.9 + 1e-4
        assert after[stays].min() >= before[~stays].max()


def test_a_penalty_makes_what_was_seen_less_likely() -> None:
    """Positive logits are divided, negative ones multiplied, others left."""
    seen = torch.tensor([[True, False, True, False, True, False]])
    torch.testing.assert_close(
        apply_repetition_penalty(LOGITS, seen, 2.0), torch.tensor([[1.0, 1.0, 0.25, 0.0, -2.0, -1.5]])
    )
