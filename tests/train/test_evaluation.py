"""Evaluations that read a part of the val split."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.jobs import make_job, run_in
from tests.train.rank_pool import RankPool
from tests.train.test_loop import events


@pytest.mark.slow
def test_a_bounded_evaluation_has_the_same_loss_for_any_number_of_ranks(two: RankPool, tmp_path: Path) -> None:
    """Two batches of 6 windows, each time the same ones, whatever the size of a forward pass."""
    recipe = {"steps": 2}
    job = make_job(recipe=recipe, eval_every=1, eval_batches=2, eval_batch_size=5, precision="fp32")
    run_in(tmp_path / "alone", job)
    run_in(tmp_path / "at-once", make_job(recipe=recipe, eval_every=1, eval_batches=2, precision="fp32"))
    run_in(tmp_path / "whole", make_job(recipe=recipe, eval_every=1, precision="fp32"))
    for strategy in ("ddp", "fsdp"):
        two.train(strategy, tmp_path / strategy, job)
    losses = {
        name: [line["val_loss"] for line in events(tmp_path / name, "eval")]
        for name in ("alone", "at-once", "whole", "ddp", "fsdp")
    }
    assert len(losses["alone"]) == 2
    for name in ("at-once", "ddp", "fsdp"):
        assert losses[name] == pytest.approx(losses["alone"], rel=1e-6)
    assert losses["whole"] != pytest.approx(losses["alone"], rel=1e-4)
