"""TensorBoard's files, read back with its own reader."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gptctl.core.errors import MachineError, UsageError
from gptctl.train.loggers import tensorboard
from tests.train.jobs import make_job, run_in


@pytest.mark.slow
def test_the_curves_are_those_of_events_jsonl(tmp_path: Path) -> None:
    """Also over a resume: what the first process logged behind the checkpoint is hidden."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    job = replace(make_job(log_every=5, eval_every=10), loggers=("tensorboard",))
    run_in(tmp_path, replace(job, max_tokens=20 * 6 * 32))
    run_in(tmp_path, job)
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    for tag, kind, name in (
        ("train/loss", "step", "loss"),
        ("train/lr", "step", "lr"),
        ("eval/val_loss", "eval", "val_loss"),
    ):
        wanted = [(line["step"], line[name]) for line in lines if line["event"] == kind]
        assert [(point.step, pytest.approx(point.value)) for point in read.Scalars(tag)] == wanted
    assert [point.step for point in read.Scalars("train/loss")] == [5, 10, 15, 20, 25, 30]


def test_a_missing_package_and_an_unknown_logger_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 4 with the command that installs it; exit 2 with the names there are."""
    with pytest.raises(UsageError, match=r"no logger is called 'tensorbord' \(did you mean 'tensorboard'"):
        run_in(tmp_path, replace(make_job(), loggers=("tensorbord",)))
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MachineError, match="tensorboard, which is not installed") as caught:
        tensorboard.check()
    assert caught.value.hint == "pip install 'tensorboard>=2.20'"
    with pytest.raises(MachineError):
        run_in(tmp_path / "run", replace(make_job(), loggers=("tensorboard",)))


def test_a_logger_that_cannot_write_does_not_end_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk under the curves: one warning, all steps."""
    pytest.importorskip("tensorboard")

    def full(self: object, kind: str, step: int, fields: object) -> None:
        raise OSError(28, "No space left on device")

    from gptctl.core.context import Context

    monkeypatch.setattr(tensorboard.TensorBoardLogger, "log_event", full)
    warned: list[str] = []
    job = replace(make_job(log_every=5), loggers=("tensorboard",))
    assert run_in(tmp_path, job, Context(warn=warned.append))["steps"] == 30
    assert len(warned) == 1
    assert "logging to tensorboard ended" in warned[0]
