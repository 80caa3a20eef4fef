"""Shares of a mixture: exact for any number of samples, whatever the weights, and the same from any sample on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gptctl.train.data.shares import MAX_TOTAL, SNAPSHOT_EVERY, Shares, integer_weights

WEIGHTS = st.lists(st.one_of(st.integers(1, 10**6), st.floats(1e-3, 1e3)), min_size=1, max_size=9)


def test_the_first_samples_of_seven_two_and_one() -> None:
    """Ten samples, and then the same again."""
    order = Shares([0.7, 0.2, 0.1]).sources(0, 20).tolist()
    assert order[:10] == order[10:] == [0, 0, 0, 1, 0, 0, 1, 0, 0, 2]


@given(WEIGHTS, st.sampled_from([0, 1, 3 * SNAPSHOT_EVERY - 7, 50_000]))
def test_every_length_has_every_share_to_the_sample(weights: list[float], first: int) -> None:
    """Rounded down or up, in whole numbers."""
    shares, count = Shares(weights), 300
    lengths = np.arange(first + 1, first + count + 1)
    chosen = shares.sources(first, count)
    for source, before in enumerate(shares.counts(first).tolist()):
        have = before + np.cumsum(chosen == source)
        exact = [int(length) * int(shares.weights[source]) for length in lengths]
        assert all(
            total // shares.cycle <= n <= -(-total // shares.cycle) for total, n in zip(exact, have, strict=True)
        )


@given(WEIGHTS, st.integers(0, 3 * SNAPSHOT_EVERY), st.integers(1, 60))
def test_any_sample_is_found_alone(weights: list[float], first: int, count: int) -> None:
    """By another object, backwards, and in the sums."""
    together, other = Shares(weights), Shares(weights)
    chosen = together.sources(first, count)
    alone = [other.sources(first + place, 1)[0] for place in reversed(range(count))]
    assert chosen.tolist() == alone[::-1]
    found = np.bincount(chosen, minlength=len(weights))
    assert (other.counts(first + count) - other.counts(first)).tolist() == found.tolist()


def test_threads_may_read_at_the_same_time() -> None:
    """One reads batches ahead while another counts them."""
    weights = [123_457.0, 654_321.0, 222_222.0]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            shares, expected = Shares(weights), Shares(weights).counts(400_000).tolist()
            assert all(one.tolist() == expected for one in pool.map(shares.counts, [400_000] * 8))
            assert len(shares._snapshots) == 1 + 400_000 // SNAPSHOT_EVERY


def test_weights_are_what_they_print() -> None:
    """Decimal fractions are exact, and only what exceeds 32 bits is rounded."""
    assert integer_weights([0.7, 0.2, 0.1]).tolist() == [7, 2, 1]
    assert integer_weights([1e6, 2.5e6]).tolist() == [2, 5]
    rounded = integer_weights([1 / 3, 2 / 3, 1e-30, 0.0])
    assert rounded.tolist()[2:] == [1, 0]
    assert rounded.sum() <= MAX_TOTAL
    assert abs(rounded[1] / rounded.sum() - 2 / 3) < 1e-9


def test_a_source_without_weight_is_never_read() -> None:
    """Nor does it disturb the others."""
    assert Shares([1, 0, 1]).sources(0, 6).tolist() == [0, 2, 0, 2, 0, 2]
