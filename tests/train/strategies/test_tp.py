"""Tensor parallelism: the vocabulary split over ranks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.train.jobs import make_job, run_in, whole_model
from tests.train.rank_pool import RankPool, initial_parts, logits_of, rank_pool
from tests.train.strategies.test_strategies import (
    assert_close,
    assert_parts_are_of,
    initial_weights,
    job_of,
    last,
    resume,
)
from tests.train.test_loop import events


@pytest.mark.slow
def test_tokens_that_ranks_cannot_share_evenly(tmp_path: Path) -> None:
    """Two groups of three that split 320 rows, of which 61 are padding, of an embedding and a head."""
    shape = {
        "heads": 3,
        "kv_heads": 3,
        "hidden_size": 48,
        "vocab_size": 259,
        "tie_embeddings": False,
        "logit_softcap": 5,
    }
    job = job_of("test-modern", model=shape, recipe={"schedule": "constant", "label_smoothing": 0.1})
    run_in(tmp_path / "alone", job)
    with rank_pool(6, tmp_path) as six:
        split = replace(job, tp_size=3, world_size=6, strategy="tp")
        assert_parts_are_of(initial_weights(split), six.call(initial_parts, split, tmp_path))
        resume(six, tmp_path, "tp", split)
    assert_close(last(tmp_path / "alone"), last(tmp_path / "straight"))
    for name in ("grad_norm", "loss"):
        expected = [line[name] for line in events(tmp_path / "alone", "step")]
        assert [line[name] for line in events(tmp_path / "straight", "step")] == pytest.approx(expected, rel=1e-4)


def test_two_ranks_give_all_logits(two: RankPool, tmp_path: Path) -> None:
    """An objective that asks for logits gets those of the whole vocabulary, with the right gradients."""
    job = make_job("test-modern", world_size=2, strategy="tp")
    model = whole_model(job)
    tokens = torch.arange(64).view(2, 32)
    logits = model(tokens)
    logits.square().sum().backward()
    gradient = model.blocks[0].attention.output.weight.grad, model.embedding.weight.grad
    for found, norms in two.call(logits_of, job, tmp_path, tokens):
        assert torch.allclose(found, logits, atol=1e-5)
        assert norms == pytest.approx([one.norm().item() for one in gradient], rel=1e-4)
