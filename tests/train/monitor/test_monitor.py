"""What a run says while it trains: figures that agree with one another, and text from the model."""

from __future__ import annotations

import gc
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gptctl.core.context import Context
from gptctl.core.errors import StoppedError
from gptctl.text.tokenization import training
from gptctl.train.monitor import device_stats
from gptctl.train.planning.estimate import estimate
from tests.train.jobs import make_job, run_in
from tests.train.test_faults import assert_equal, events, weights


def test_events_carry_speed_memory_and_utilisation(tmp_path: Path) -> None:
    """Each line's speed follows from the line before; utilisation is speed times the FLOPs of a token over the peak."""
    job = make_job("test-modern", log_every=5)
    run_in(tmp_path, job)
    lines = events(tmp_path, "step")
    config = job.model.build().config
    planned = estimate(config, job.recipe)
    peak = device_stats.peak_flops(torch.device("cpu"), "fp32", torch.get_num_threads())
    for before, line in zip([{"tokens": 0, "step": 0}, *lines], lines, strict=False):
        seconds = line["step_seconds"] * (line["step"] - before["step"])
        assert (line["tokens"] - before["tokens"]) / seconds == pytest.approx(line["tokens_per_second"], rel=0.01)
        flops = planned["flops_per_step"] / planned["tokens_per_step"] * line["tokens_per_second"]
        assert line["mfu"] == pytest.approx(flops / peak, rel=0.02, abs=1e-4)
        assert 1e8 < line["memory_bytes"] < 1e11
    assert lines[-1]["tokens"] == 30 * 6 * 32


def test_the_measured_peak_is_that_of_the_fastest_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock of the test's own: products take 30, 20 and 40 ms. Random numbers are left alone."""
    times = iter([0.0, 0.0, 0.03, 0.03, 0.03, 0.05, 0.05, 0.05, 0.09, 99.0])
    monkeypatch.setattr(device_stats, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    state = torch.get_rng_state()
    peak = device_stats.peak_flops.__wrapped__(torch.device("cpu"), "fp32", 1)
    assert torch.equal(state, torch.get_rng_state())
    assert peak == pytest.approx(2 * 1024**3 / 0.02)


def test_figures_come_at_once_for_the_live_view(tmp_path: Path) -> None:
    """Step, plan, loss, speed, validation and checkpoint are in them by the end; time is left but for the last."""
    seen: list[dict[str, Any]] = []
    run_in(tmp_path, make_job(log_every=10, eval_every=10, checkpoint_every=10), Context(show_metrics=seen.append))
    last = seen[-1]
    assert (last["step"], last["steps"], last["unit"]) == (30, 30, "tokens")
    assert {
        "loss",
        "lr",
        "grad_norm",
        "tokens_per_second",
        "mfu",
        "memory_bytes",
        "val_loss",
        "best_loss",
    } <= last.keys()
    assert "evaluating" in {figures.get("phase") for figures in seen}
    middle = next(figures for figures in seen if figures.get("step") == 20)
    assert middle["seconds_left"] > 0


def test_a_sample_leaves_training_alone(tmp_path: Path) -> None:
    """Text at each second evaluation, also with dropout; the weights are those of a run without, bit for bit."""
    job = replace(
        make_job(model={"dropout": 0.1, "vocab_size": 257}, eval_every=5),
        tokenizer_json=training.train([], "bytes", 257),
        sample_prompt="def ",
    )
    run_in(tmp_path / "with", replace(job, sample_every=2))
    run_in(tmp_path / "without", job)
    assert_equal(weights(tmp_path / "with"), weights(tmp_path / "without"))
    samples = events(tmp_path / "with", "sample")
    assert [sample["step"] for sample in samples] == [10, 20, 30]
    assert all(sample["text"].startswith("def ") for sample in samples)
    assert len({sample["text"] for sample in samples}) > 1
    assert not events(tmp_path / "without", "sample")


def test_the_collector_rests_while_training_and_works_again_after(tmp_path: Path) -> None:
    """Paused and frozen during steps; as it was found afterwards, also after an error."""
    found: list[tuple[bool, int]] = []

    def look(done: float, total: float | None, unit: str, note: str = "") -> None:
        found.append((gc.isenabled(), gc.get_freeze_count()))

    assert gc.isenabled()
    run_in(tmp_path / "run", make_job(), Context(progress=look))
    assert found
    assert all(not enabled and frozen > 10_000 for enabled, frozen in found)
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
    context = Context()
    context.stop.signal_number = signal.SIGTERM
    with pytest.raises(StoppedError):
        run_in(tmp_path / "stopped", make_job(), context)
    assert gc.isenabled()
