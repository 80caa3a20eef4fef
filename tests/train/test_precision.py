"""Number formats of training: losses near those of fp32, fewer bytes, and runs that resume exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gptctl.core.context import Context
from gptctl.stages.pretrain import Pretrain, plan
from gptctl.train.job import TrainJob
from gptctl.train.low_precision_state import AdamWLowPrecision
from gptctl.train.optimizers import adamw
from gptctl.train.strategies.single import SingleDevice
from gptctl.train.tasks.pretraining import NewModel
from tests.train.jobs import assert_equal, events, make_job, run_in, weights
from tests.train.rank_pool import RankPool, tensors

TOLERANCE = 0.02  # of losses in bf16, in nats


def job_of(preset: str, steps: int = 8, precision: str = "fp32", **recipe: Any) -> TrainJob:
    """Describe a short run whose batches are cut into micro-batches."""
    settings = {"steps": steps, "batch_size": 4, "warmup_steps": 2, "schedule": "constant"} | recipe
    return make_job(preset, recipe=settings, precision=precision, micro_batch_size=2, log_every=1)


def narrow_job(preset: str, **changes: Any) -> TrainJob:
    """Describe the same run with the model and the optimizer's state in bfloat16."""
    return job_of(preset, precision="bf16-master", optimizer_state_dtype="bf16", **changes)


@pytest.mark.parametrize(
    "preset",
    [
        "test-moe",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("test-gpt2", "test-modern", "test-vaswani")),
    ],
)
def test_losses_are_near_those_of_fp32(tmp_path: Path, preset: str) -> None:
    """Within 0.02 nats in each step; checkpoints hold weights in fp32 and the state as asked."""
    run_in(tmp_path / "fp32", job_of(preset))
    run_in(tmp_path / "narrow", narrow_job(preset))
    expected, found = ([line["loss"] for line in events(tmp_path / name, "step")] for name in ("fp32", "narrow"))
    assert found == pytest.approx(expected, abs=TOLERANCE)
    assert found != expected
    for name, tensor in weights(tmp_path / "narrow", 8).items():
        is_mean = name.endswith(("exp_avg", "exp_avg_sq", "momentum"))
        assert tensor.dtype == (torch.bfloat16 if is_mean else torch.float32), name


@pytest.mark.slow
def test_a_resumed_run_is_bit_equal(tmp_path: Path) -> None:
    """The weights in fp32 and the state in bf16 are all that a run needs."""
    job = narrow_job("test-modern", steps=6)
    run_in(tmp_path / "straight", job)
    run_in(tmp_path / "halves", replace(job, max_tokens=3 * 4 * 32))
    run_in(tmp_path / "halves", job)
    assert [line["step"] for line in events(tmp_path / "halves", "resumed")] == [3]
    assert_equal(weights(tmp_path / "straight", 6), weights(tmp_path / "halves", 6))


def test_the_model_takes_half_the_bytes() -> None:
    """Two bytes a parameter beside the copies in fp32, and two for each mean; routers stay in fp32."""
    job = job_of("test-moe")
    model, strategy = job.model.build(), SingleDevice(torch.device("cpu"))
    masters = strategy.prepare_model(model, "bf16-master", compiled=False)
    routers = {name for name in masters if ".router." in name}
    assert routers
    for name, parameter in model.named_parameters():
        assert parameter.dtype == (torch.float32 if name in routers else torch.bfloat16), name
        assert masters[name].dtype == torch.float32
    parameter = nn.Parameter(torch.zeros(10, 10))
    parameter.grad = torch.ones(10, 10)
    optimizer = AdamWLowPrecision([parameter])
    optimizer.step()
    assert sum(value.nbytes for value in optimizer.state[parameter].values()) == 2 * 2 * 100 + 4


def test_the_estimate_counts_these_bytes() -> None:
    """What `--dry-run` predicts for weights, copies and state is what a rank holds after a step."""
    options: dict[str, Any] = {"preset": "test-gpt2", "gpus": 1, "precision": "bf16-master"}
    config = Pretrain.model_validate(options | {"training": {"optimizer_state_dtype": "bf16"}})
    planned = plan(config, Context()).plan["memory"]
    model, strategy = NewModel(config.model_config_for(None), 0).build(), SingleDevice(torch.device("cpu"))
    masters = strategy.prepare_model(model, config.precision, compiled=False)
    (optimizer,) = adamw.build(masters, config.effective_recipe(), strategy)
    for master in masters.values():
        master.grad = torch.zeros_like(master)
    optimizer.step()
    states = [value for state in optimizer.state.values() for value in state.values()]
    found = {"weights": masters.values(), "rounded weights": list(model.parameters()), "optimizer": states}
    for name, held in found.items():
        assert planned[name] == pytest.approx(sum(tensor.nbytes for tensor in held), rel=0.02), name
    wide = plan(Pretrain.model_validate(options | {"precision": "fp32"}), Context()).plan["memory"]
    assert planned["activations"] < 0.7 * wide["activations"]
    assert planned["optimizer"] == wide["optimizer"] / 2


def test_a_slow_mean_in_bf16_is_not_frozen() -> None:
    """After large gradients, the mean of squares falls as in fp32, although a step changes it by 0.1 %."""
    ours, theirs = (nn.Parameter(torch.zeros(64, 64)) for _ in range(2))
    options: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.999), "weight_decay": 0.1}
    optimizers = AdamWLowPrecision([ours], **options), torch.optim.AdamW([theirs], **options)
    generator = torch.Generator().manual_seed(0)
    for step in range(700):
        gradient = torch.randn(64, 64, generator=generator) * (1.0 if step < 20 else 0.01)
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    mine, exact = (o.state[p]["exp_avg_sq"].float() for o, p in zip(optimizers, (ours, theirs), strict=True))
    assert mine.mean().item() == pytest.approx(exact.mean().item(), rel=0.02)
    assert exact.mean() < 0.02 * 0.6  # it did fall
    assert (ours - theirs).abs().mean() < 0.02 * theirs.abs().mean()


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "tp"])
def test_ranks_train_as_one(two: RankPool, tmp_path: Path, strategy: str) -> None:
    """Losses near those of one process, routers included, and a resumed run that is bit-equal."""
    for preset in ("test-modern", "test-moe"):
        job = narrow_job(preset, steps=6)
        alone = run_in(tmp_path / preset / "alone", job)
        together = two.train(strategy, tmp_path / preset / "straight", job)
        assert together["val_loss"] == pytest.approx(alone["val_loss"], abs=TOLERANCE)
        two.train(strategy, tmp_path / preset / "halves", replace(job, max_tokens=3 * 4 * 32))
        two.train(strategy, tmp_path / preset / "halves", job)
        straight, halves = (
            tensors(tmp_path / preset / name / "checkpoints" / "step-000006") for name in ("straight", "halves")
        )
        assert_equal(straight, halves)
        assert {tensor.dtype for name, tensor in straight.items() if not name[0].isdigit()} == {torch.float32}
