"""The arrangement of a run: the same for --dry-run and the run, on whatever device there is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gptctl.core.context import Context
from gptctl.core.errors import UsageError
from gptctl.model.config import ModelConfig
from gptctl.stages import pretrain
from gptctl.train.job import TrainJob
from gptctl.train.planning.estimate import Layout, choose_eval_batch, memory_parts
from gptctl.train.planning.plan_run import PlanOptions, arrange
from gptctl.train.planning.reading_plan import warn_of_repetition
from gptctl.train.tasks.plan_pretraining import plan_of
from gptctl.train.tasks.token_sources import open_token_sources
from tests.train.planning.test_estimate import of

H200 = 141e9
TWO = PlanOptions("auto", 2, nodes=1, tp_size=0, hybrid_shard=False, micro_batch_size=0, bf16=True, memory=H200)


@pytest.fixture
def eight_h200(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that this machine has eight H200s."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=H200))


def planned_and_run(tokens: Path, **settings: object) -> tuple[dict[str, object], TrainJob]:
    """Return the plan of --dry-run and the job of the run, for the same settings."""
    config = pretrain.Pretrain(tokens=(str(tokens),), out="run", **settings)  # type: ignore[arg-type]
    data = open_token_sources(config.tokens, config)
    job = pretrain.make_job(config, data, plan_of(config, data, Path("run")), 0.0)
    return pretrain.plan(config, Context()).plan, job


@pytest.mark.parametrize(("preset", "gpus"), [("gpt2", 1), ("gpt2-xl", 8)])
def test_a_run_has_the_micro_batches_of_its_plan(eight_h200: None, workspace: Path, preset: str, gpus: int) -> None:
    """A rank's share of 512 and 64 sequences would need more memory than an H200 has."""
    plan, job = planned_and_run(workspace / "tokens", preset=preset, gpus=gpus, accelerator="h200")
    assert (job.micro_batch_size, job.strategy) == (plan["micro_batch_size"], plan["parallel"])
    assert 1 < job.micro_batch_size < 512 // gpus
    assert job.eval_batch_size >= job.micro_batch_size


def test_a_run_on_the_cpu_takes_its_whole_share(workspace: Path) -> None:
    """As long as it fits into memory."""
    plan, job = planned_and_run(workspace / "tokens", preset="test-modern", device="cpu")
    assert job.micro_batch_size == plan["micro_batch_size"] == job.recipe.batch_size


def test_auto_takes_what_fits() -> None:
    """One rank alone, copies where they fit, rows where they do not; contradictions are refused."""
    model, recipe = of("gpt2-medium")

    def strategy(model: ModelConfig = model, **changes: object) -> str:
        return arrange(model, recipe, replace(TWO, **changes)).layout.strategy  # type: ignore[arg-type]

    assert strategy(world_size=1) == "single"
    assert strategy() == "ddp"
    assert strategy(memory=4e9) == "fsdp"
    assert strategy(of("gpt3-13b")[0]) == "fsdp"
    assert strategy(tp_size=2) == "tp"
    assert strategy(strategy="fsdp") == "fsdp"
    with pytest.raises(UsageError, match="tp_size cannot be used with parallel=ddp"):
        strategy(strategy="ddp", tp_size=2)
    with pytest.raises(UsageError, match="8 processes per machine cannot be split into groups of tp_size 3"):
        strategy(strategy="tp", world_size=16, nodes=2, tp_size=3)
    with pytest.raises(UsageError, match="heads 16 is not divisible by tp_size 3"):
        strategy(strategy="tp", world_size=6, tp_size=3)


def test_an_evaluation_fits_where_training_does() -> None:
    """32 sequences of a long context take more memory than one with its gradients, if the model has two blocks."""
    model, recipe = of("gpt2", batch_size=64, seq_len=8192)
    model = model.model_copy(update={"layers": 2, "max_seq_len": 8192})
    roomy, tight = (choose_eval_batch(model, recipe, Layout(bf16=True), 1, memory) for memory in (H200, 4e9))
    assert sum(memory_parts(model, recipe, Layout(bf16=True), 1).values()) < 0.85 * 4e9
    assert (roomy, tight) == (32, 8)


def test_many_epochs_are_written_with_separators() -> None:
    said: list[str] = []
    warn_of_repetition([{"name": "tok", "epochs": 11940.3}], Context(warn=said.append))
    assert [line.partition(";")[0] for line in said] == ["tok would be read 11,940.3 times"]
