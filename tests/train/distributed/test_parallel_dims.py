"""The layout of ranks, by name."""

from __future__ import annotations

import pytest

from gptctl.train.distributed.parallel_dims import ParallelDims


@pytest.mark.parametrize(
    ("strategy", "options", "expected"),
    [
        ("ddp", {}, ParallelDims(dp_replicate=8)),
        ("fsdp", {"nodes": 2}, ParallelDims(dp_shard=8)),
        ("fsdp", {"nodes": 2, "hybrid_shard": True}, ParallelDims(dp_replicate=2, dp_shard=4)),
        ("fsdp", {"hybrid_shard": True}, ParallelDims(dp_shard=8)),
        ("tp", {}, ParallelDims(tp=8)),
        ("tp", {"nodes": 2}, ParallelDims(dp_shard=2, tp=4)),
        ("tp", {"tp_size": 2}, ParallelDims(dp_shard=4, tp=2)),
    ],
)
def test_each_strategy_uses_its_dimensions(strategy: str, options: dict[str, int], expected: ParallelDims) -> None:
    """The product of all sizes is the number of ranks."""
    dims = ParallelDims.for_strategy(strategy, 8, **options)  # type: ignore[arg-type]
    assert dims == expected
    assert dims.world_size == 8


def test_who_holds_the_model_and_who_reads_the_same_samples() -> None:
    """Copies hold the whole model; ranks of tensor parallelism read the same samples."""
    assert ParallelDims().is_replicated
    assert ParallelDims(dp_replicate=4).is_replicated
    assert not ParallelDims(dp_replicate=2, dp_shard=2).is_replicated
    assert not ParallelDims(tp=2).is_replicated
    assert ParallelDims(dp_replicate=2, dp_shard=4, tp=8).dp_size == 8
