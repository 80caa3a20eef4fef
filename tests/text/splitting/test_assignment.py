"""Cuts in an order on disk are those of plain sorting; quotas add up."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptctl.pipeline.sorted_runs import SortedRuns
from gptctl.text.splitting.assignment import UnitAssignment, find_cuts
from gptctl.text.splitting.quotas import TEST, TRAIN, VAL, Quotas, apportion


@pytest.mark.parametrize("parts", [1, 3, 50])
@pytest.mark.parametrize("largest", [5, 2**64])
def test_cuts_are_those_of_sorting(parts: int, largest: int, tmp_path: Path) -> None:
    """For each label, in any number of parts, also if many positions are equal."""
    rng = random.Random(parts)
    rows = [(rng.choice((3, 8, 9)), rng.randrange(largest), rng.randrange(2**64)) for _ in range(300)]
    runs = SortedRuns(tmp_path)
    for number in range(4):
        part = rows[number::4]
        label, position, tie = (np.array([row[place] for row in part], np.uint64) for place in range(3))
        runs.write(number, {"position": position, "tie": tie, "label": label})
    labels, val, test = np.array([3, 8, 9], np.uint64), np.array([5, 0, 1000]), np.array([7, 20, 0])
    cuts = find_cuts(runs, labels, val, test, parts)
    expected = {}
    for number, label in enumerate(labels.tolist()):
        ordered = sorted(row for row in rows if row[0] == label)
        for place, row in enumerate(ordered):
            in_val = test[number] <= place < test[number] + val[number]
            expected[row] = TEST if place < test[number] else VAL if in_val else TRAIN
    columns = [np.array([row[place] for row in rows], np.uint64) for place in range(3)]
    assert cuts.split_of(*columns).tolist() == [expected[row] for row in rows]


@given(st.lists(st.integers(0, 500), min_size=1, max_size=12), st.floats(0, 0.5), st.floats(0, 0.49))
def test_quotas_add_up(total: list[int], val: float, test: float) -> None:
    """To the rounded share of all, within one of the share of each label; and every label keeps a document in train."""
    counts = np.array(total, np.int64)
    shares = apportion(counts, test)
    assert shares.sum() == int(np.floor(counts.sum() * test + 0.5))
    assert (np.abs(shares - counts * test) < 1 + 1e-6).all()
    quotas = Quotas.of(counts, val, test)
    assert ((quotas.val >= 0) & (quotas.test >= 0) & (quotas.val + quotas.test <= np.maximum(counts - 1, 0))).all()


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 30)), min_size=1, max_size=40))
def test_units_meet_the_shares_within_the_largest(units: list[tuple[int, int]]) -> None:
    """If all documents are in units, no split is off its share by more than the largest unit."""
    total = Counter[int]()
    for label, size in units:
        total[label] += size
    counts = np.array([total[label] for label in range(3)], np.int64)
    assignment = UnitAssignment(Quotas.of(counts, 0.2, 0.2), (0.6, 0.2, 0.2))
    for label, size in sorted(units, key=lambda unit: -unit[1]):
        assignment.decide([label], [size])
    assert (assignment.given.sum(axis=1) == counts).all()
    largest = max(size for _, size in units)
    assert (np.abs(assignment.given[:, VAL] - 0.2 * counts) <= largest).all()
    assert (np.abs(assignment.given[:, TEST] - 0.2 * counts) <= largest).all()
    assert (assignment.given[:, TRAIN] > 0)[counts > 0].all()
