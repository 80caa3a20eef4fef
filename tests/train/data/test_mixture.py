"""Mixtures of data sources: weights are kept, order is a pure function of seed and index, one source is itself."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gptctl.core.errors import UsageError
from gptctl.train.data.data_source import DataSource, WeightedSource
from gptctl.train.data.mixture import BLOCK, Mixture, block_quotas, open_sources
from gptctl.train.data.token_windows import TokenWindows
from tests.train.jobs import assert_equal, make_job, run_in, weights, windows, windows_of


def numbered(first: int, count: int, seq_len: int = 8) -> TokenWindows:
    """Return windows of consecutive numbers, which tell the source and the window."""
    return TokenWindows([np.arange(first, first + count * seq_len + 1, dtype=np.uint32)], seq_len, seed=5)


def two(seed: int = 0, share: float = 0.25) -> Mixture:
    """Mix two sources."""
    return Mixture([numbered(0, 40), numbered(100_000, 700)], [share, 1 - share], seed)


def test_a_single_source_is_read_as_it_is() -> None:
    """Whatever its weight."""
    source = open_sources([WeightedSource(partial(numbered, 0, 40), 0.3)], seed=1)
    assert isinstance(source, TokenWindows)
    assert torch.equal(windows_of(source.batch(7, 50)), windows_of(numbered(0, 40).batch(7, 50)))


def test_each_source_has_its_share_and_its_own_order() -> None:
    """In every block exactly; over epochs of the smaller source, and across the border of two blocks."""
    mixture = two()
    rows = windows_of(mixture.batch(0, 2 * BLOCK))
    for block in (rows[:BLOCK], rows[BLOCK:]):
        assert (block[:, 0] < 100_000).sum() == BLOCK // 4
    from_first, from_second = rows[rows[:, 0] < 100_000], rows[rows[:, 0] >= 100_000]
    assert torch.equal(from_first, windows_of(numbered(0, 40).batch(0, len(from_first))))
    assert torch.equal(from_second, windows_of(numbered(100_000, 700).batch(0, len(from_second))))
    assert mixture.samples_per_epoch == sum(source.samples_per_epoch for source in mixture.sources)


@given(st.integers(BLOCK - 60, BLOCK + 60), st.integers(1, 50), st.integers(0, 3))
def test_batches_do_not_depend_on_how_they_are_cut(first: int, count: int, seed: int) -> None:
    """One sample at a time or together, by another object of the same seed."""
    together = windows_of(two(seed).batch(first, count))
    again = two(seed)
    assert torch.equal(together, torch.cat([windows_of(again.batch(first + i, 1)) for i in range(count)]))


def test_the_seed_decides_the_order() -> None:
    """Another seed interleaves the sources in another way, and neighbours are mixed."""
    one, other = (windows_of(two(seed).batch(0, 200))[:, 0] < 100_000 for seed in (0, 1))
    assert not torch.equal(one, other)
    assert 20 < one.sum() < 80
    assert one.diff().any()


def test_evaluation_reads_every_sample_of_every_source_once() -> None:
    """For any number of readers."""
    mixture = two()
    found = [
        row
        for rank in range(3)
        for batch in mixture.sequential(16, rank, 3)
        for row in windows_of(batch)[:, 0].tolist()
    ]
    expected = [
        row for source in mixture.sources for batch in source.sequential(16) for row in windows_of(batch)[:, 0].tolist()
    ]
    assert sorted(found) == sorted(expected)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=12))
def test_quotas_fill_a_block(shares: list[float]) -> None:
    """Every source has at least one place; each is within rounding of its weight if no weight is tiny."""
    quotas = block_quotas(shares)
    assert sum(quotas) == BLOCK
    assert min(quotas) >= 1
    exact = [share / sum(shares) * BLOCK for share in shares]
    if min(exact) >= 1:
        assert all(abs(quota - wanted) <= 1 for quota, wanted in zip(quotas, exact, strict=True))


def test_a_weight_must_be_positive() -> None:
    """Exit 2."""
    with pytest.raises(UsageError, match="must be positive, not 0"):
        block_quotas([1.0, 0.0])


def test_a_run_on_a_mixture_resumes_exactly(tmp_path: Path) -> None:
    """Two sources: stopped half way and resumed, every bit as without."""
    from dataclasses import replace

    parts: list[partial[DataSource]] = [partial(windows, split, 32, 7) for split in ("train", "val")]
    sources = tuple(WeightedSource(part, weight) for part, weight in zip(parts, (0.8, 0.2), strict=True))
    job = replace(make_job(recipe={"schedule": "constant"}), train_sources=sources)
    run_in(tmp_path / "straight", job)
    run_in(tmp_path / "halves", replace(job, max_tokens=13 * 6 * 32))
    run_in(tmp_path / "halves", job)
    assert_equal(weights(tmp_path / "straight"), weights(tmp_path / "halves"))
