"""Which samples an evaluation reads: all, or a number of them that is spread over the source."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gptctl.train.data.data_source import evaluation_batches
from gptctl.train.data.labelled_texts import LabelledTexts
from gptctl.train.data.token_windows import TokenWindows


@given(st.integers(0, 60), st.integers(1, 9), st.integers(1, 4), st.integers(0, 70))
def test_any_number_of_ranks_reads_the_same_samples(samples: int, batch_size: int, ranks: int, limit: int) -> None:
    parts = [list(evaluation_batches(samples, batch_size, rank, ranks, limit)) for rank in range(ranks)]
    read = sorted(sample for batches in parts for batch in batches for sample in batch)
    alone = [sample for batch in evaluation_batches(samples, 1, 0, 1, limit) for sample in batch]
    assert read == alone
    assert len(alone) == (min(limit, samples) or samples)
    assert all(0 < len(batch) <= batch_size for batches in parts for batch in batches)


@given(st.integers(2, 10_000), st.integers(2, 50))
def test_a_limited_evaluation_is_spread_evenly(samples: int, limit: int) -> None:
    chosen = [sample for batch in evaluation_batches(samples, 7, 0, 1, limit) for sample in batch]
    steps = {later - earlier for earlier, later in pairwise(chosen)}
    assert chosen[0] == 0 and samples - chosen[-1] <= max(1, -(-samples // limit))
    assert max(steps) - min(steps) <= 1 and min(steps) >= 1


def test_windows_and_texts_keep_the_limit() -> None:
    windows = TokenWindows([np.arange(1000, dtype=np.uint16)], 10, seed=0)
    firsts = [row for batch in windows.sequential(3, limit=5) for row in batch.input_ids[:, 0].tolist()]
    assert firsts == [0, 200, 400, 600, 800]
    texts = LabelledTexts([[np.array([number, 1, 2])] for number in range(10)], [0] * 10, 0, "val")
    read = [row for batch in texts.sequential(4, limit=2) for row in batch.input_ids[:, 0, 0].tolist()]
    assert read == [0, 5]
