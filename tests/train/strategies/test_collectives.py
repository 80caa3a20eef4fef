"""How often ranks communicate: what a strategy promises to send once is sent once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from gptctl.train.distributed.sharded_strategy import ShardedStrategy
from gptctl.train.job import TrainJob
from tests.train.rank_pool import RankPool, build_strategy, train_as_rank
from tests.train.strategies.test_strategies import STEPS, assert_close, job_of, last, run_in


class Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the collectives of this rank by name."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if DTensor in types:
            return NotImplemented  # it calls this again with what it does to its shards
        name = str(function)
        if "c10d" in function.namespace and any(
            word in name for word in ("reduce", "gather", "all_to_all", "broadcast")
        ):
            self.counts[name] += 1
        return function(*args, **(kwargs or {}))


def sums_of_a_pass(job: TrainJob, folder: Path) -> tuple[int, int]:
    """Count the collectives of the forward pass of this rank, and those of the backward pass."""
    strategy = build_strategy(job, folder)
    model = job.model.build()
    strategy.prepare_model(model, "fp32", False)
    tokens = torch.arange(2 * 17).view(2, 17)
    with Traffic() as forward:
        loss = model(tokens[:, :-1], targets=tokens[:, 1:]).cross_entropy
    with Traffic() as backward:
        loss.backward()
    strategy.heartbeat_writer.close()
    return forward.counts.total(), backward.counts.total()


@pytest.mark.parametrize("preset", ["test-gpt2", "test-modern"])
@pytest.mark.slow
def test_tensor_parallelism_sums_twice_a_block_in_each_direction(two: RankPool, tmp_path: Path, preset: str) -> None:
    """Once for attention and once for the feed-forward part, however many matrices read the same input.

    The table of embeddings adds one sum. The loss adds three: the exponentials, the losses, and the gradient of the
    hidden states, which it finds in the forward pass.
    """
    job = job_of(preset, world_size=2, strategy="tp")
    layers = job.model.build().config.layers
    assert two.call(sums_of_a_pass, job, tmp_path) == [(2 * layers + 4, 2 * layers)] * 2


def train_and_count(job: TrainJob, folder: Path, defers: bool) -> int:
    """Train with gradients that are summed in each backward pass, or in the last of a batch; count reduce-scatters."""
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ShardedStrategy, "may_defer_sums", lambda self, model: defers)
        with Traffic() as traffic:
            train_as_rank(folder, job)
    return sum(count for name, count in traffic.counts.items() if "reduce_scatter" in name)


@pytest.mark.slow
def test_sums_of_gradients_may_wait_for_the_last_micro_batch(two: RankPool, tmp_path: Path) -> None:
    """The same weights, and one reduce-scatter a step where there are two micro-batches, one of them empty on a rank."""
    job = job_of("test-modern", world_size=2, strategy="fsdp")
    run_in(tmp_path / "alone", job_of("test-modern"))
    at_once, deferred = (
        two.call(train_and_count, job, tmp_path / f"deferred-{defers}", defers) for defers in (False, True)
    )
    groups = job.model.build().config.layers + 1  # the blocks, and the rest of the model
    assert (at_once, deferred) == ([2 * STEPS * groups] * 2, [STEPS * groups] * 2)
    assert_close(last(tmp_path / "alone"), last(tmp_path / "deferred-True"))
