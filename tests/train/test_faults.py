"""Steps that go wrong: what counts as wrong, and that what follows is what a run without the bad samples does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptctl.core.context import Context
from gptctl.core.errors import DataError, DivergedError, StoppedError
from gptctl.model.saved_model import load_weights_into
from gptctl.train.checkpoints import checkpoint_folders
from gptctl.train.data.batch import Batch
from gptctl.train.faults import FaultPolicy, SkippedSamples, choose_action, detect_fault, next_batch_start
from tests.conftest import REPO, warm
from tests.train.fault_jobs import WithoutSome, faulty_job
from tests.train.jobs import assert_equal, events, make_job, only, run_in, weights, whole_model


@given(st.lists(st.floats(0.5, 9), max_size=40), st.floats(0.5, 30), st.integers(2, 32), st.floats(1, 8))
def test_a_spike_is_above_mean_and_deviations(recent: list[float], loss: float, window: int, sigma: float) -> None:
    """Agreement with numpy; nothing is a spike before half a window is full."""
    recent = recent[-window:]
    settings = FaultPolicy(spike_window=window, spike_sigma=sigma)
    found = detect_fault(loss, 1.0, recent, settings)
    if len(recent) < max(2, window // 2):
        assert found is None
    else:
        bar = float(np.mean(recent) + sigma * np.std(recent, ddof=1))
        if abs(loss - bar) > 1e-9:
            assert (found == "spike") == (loss > bar)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_seen_at_once(value: float) -> None:
    """In the loss and in the gradient, whatever came before."""
    assert detect_fault(value, 1.0, [], FaultPolicy()) == detect_fault(1.0, value, [], FaultPolicy()) == "nonfinite"
    assert detect_fault(1.0, 1.0, [], FaultPolicy()) is None
    assert detect_fault(99.0, 1.0, [1.0] * 128, FaultPolicy(spike_window=0)) is None


def test_patience_with_faults_ends() -> None:
    """Skips in a row and rollbacks to one place have a bound; the two kinds have settings of their own."""
    settings = FaultPolicy(on_nonfinite="skip", on_spike="rollback", max_skips=2, max_rollbacks=1)
    assert [choose_action("nonfinite", settings, skips, 9) for skips in range(4)] == ["skip", "skip", "stop", "stop"]
    assert [choose_action("spike", settings, 9, rollbacks) for rollbacks in range(3)] == ["rollback", "stop", "stop"]
    assert choose_action("nonfinite", FaultPolicy(), 0, 0) == "stop"
    assert choose_action("spike", FaultPolicy(), 99, 99) == "warn"


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), max_size=5), st.integers(0, 90), st.integers(1, 12))
def test_a_batch_never_touches_what_is_passed_over(pieces: list[tuple[int, int]], sample: int, size: int) -> None:
    """It begins at the first place from its own on where it does not."""
    passed = [SkippedSamples(first, first + length, 0, "spike") for first, length in pieces]

    def free(start: int) -> bool:
        return all(start >= piece.end or start + size <= piece.first for piece in passed)

    begin = next_batch_start(sample, size, passed)
    assert free(begin)
    assert begin >= sample
    assert begin == sample or not free(sample)
    assert begin == sample or begin in {piece.end for piece in passed}


def test_the_default_stops_before_the_update(tmp_path: Path) -> None:
    """Exit 6; which samples is told; what is kept is finite."""
    with pytest.raises(DivergedError, match=r"diverged at step 12: loss nan.*step-000010 is kept") as caught:
        run_in(tmp_path, faulty_job(range(67, 68), checkpoint_every=5))
    assert caught.value.exit_code == 6
    [fault] = events(tmp_path, "fault")
    assert {
        "step": 12,
        "reason": "nonfinite",
        "action": "stop",
        "first_sample": 66,
        "samples": 6,
    }.items() <= fault.items()
    assert fault["loss"] is None  # strict JSON has no NaN
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path, 10).values())


def test_a_skipped_batch_might_as_well_not_exist(tmp_path: Path) -> None:
    """Two bad batches, one of them beside a checkpoint: weights as if their samples were cut out of the data."""
    job = faulty_job(frozenset((60, 65, 66)), faults={"on_nonfinite": "skip"}, checkpoint_every=5)
    warned: list[str] = []
    metrics = run_in(tmp_path / "skip", job, Context(warn=warned.append))
    run_in(tmp_path / "cut", replace(job, train_sources=only(partial(WithoutSome, 60, 72))))
    assert_equal(weights(tmp_path / "skip"), weights(tmp_path / "cut"))
    assert (metrics["steps"], metrics["tokens"]) == (30, 30 * 6 * 32)
    assert [(e["step"], e["first_sample"], e["action"]) for e in events(tmp_path / "skip", "fault")] == [
        (11, 60, "skip"),
        (11, 66, "skip"),
    ]
    assert warned == [
        "step 11: loss nan, gradient norm nan; samples 60 to 65 are skipped",
        "step 11: loss nan, gradient norm nan; samples 66 to 71 are skipped",
    ]


def test_too_many_skips_in_a_row_stop(tmp_path: Path) -> None:
    """Three are borne, the fourth ends training; four that are not in a row do not."""
    settings = {"on_nonfinite": "skip", "max_skips": 3}
    with pytest.raises(DivergedError, match="step 11"):
        run_in(tmp_path / "row", faulty_job(range(60, 90), faults=settings))
    assert [event["action"] for event in events(tmp_path / "row", "fault")] == ["skip"] * 3 + ["stop"]
    apart = faulty_job(frozenset((12, 24, 36, 48, 60)), faults=settings)
    assert run_in(tmp_path / "apart", apart)["steps"] == 30
    assert len(events(tmp_path / "apart", "fault")) == 5


@pytest.mark.parametrize("how", ["nan", "noise"])
def test_a_rollback_goes_on_as_if_the_samples_were_cut_out(tmp_path: Path, how: str) -> None:
    """Back to the last checkpoint, then past the bad batch and two to each side, bit for bit."""
    settings = {"on_nonfinite": "rollback", "on_spike": "rollback", "margin": 2, "spike_window": 8, "spike_sigma": 4}
    job = faulty_job(range(132, 138), how, settings, checkpoint_every=10, keep_checkpoints=1)
    run_in(tmp_path / "back", job)
    run_in(tmp_path / "cut", replace(job, train_sources=only(partial(WithoutSome, 120, 150))))
    assert_equal(weights(tmp_path / "back"), weights(tmp_path / "cut"))
    [fault], [back] = events(tmp_path / "back", "fault"), events(tmp_path / "back", "rollback")
    assert (fault["step"], fault["reason"], fault["first_sample"]) == (
        23,
        {"nan": "nonfinite", "noise": "spike"}[how],
        132,
    )
    assert (back["step"], back["from_step"], back["first_sample"], back["end"]) == (20, 22, 120, 150)
    [journal] = json.loads((tmp_path / "back" / "checkpoints" / "skipped-samples.json").read_text())
    assert (journal["first"], journal["end"], journal["rollback_step"]) == (120, 150, 20)


def test_without_a_checkpoint_there_is_the_start_to_go_back_to(tmp_path: Path) -> None:
    """A checkpoint of step 0 is written where a rollback may need it."""
    job = faulty_job(range(20, 21), faults={"on_nonfinite": "rollback", "margin": 0})
    run_in(tmp_path / "back", job)
    run_in(tmp_path / "cut", replace(job, train_sources=only(partial(WithoutSome, 18, 24))))
    assert events(tmp_path / "back", "rollback")[0]["step"] == 0
    assert_equal(weights(tmp_path / "back"), weights(tmp_path / "cut"))


def test_rollbacks_to_one_place_are_bounded(tmp_path: Path) -> None:
    """The margin doubles; when the third is not enough, training ends, and does so again after a resume."""
    job = faulty_job(range(66, 10_000), faults={"on_nonfinite": "rollback", "margin": 1}, checkpoint_every=10)
    for attempt in range(2):
        with pytest.raises(DivergedError, match="step-000010 is kept"):
            run_in(tmp_path, job)
        assert len(events(tmp_path, "rollback")) == 3, attempt
    pieces = json.loads((tmp_path / "checkpoints" / "skipped-samples.json").read_text())
    assert [(piece["end"] - piece["first"]) // 6 for piece in pieces] == [3, 5, 9]


@pytest.mark.parametrize("action", [pytest.param("skip", marks=pytest.mark.slow), "rollback"])
def test_killed_after_a_fault_and_resumed_is_never_interrupted(tmp_path: Path, action: str) -> None:
    """kill -9 on the way from the fault at samples 96 to 101 to the next checkpoint: every bit as without."""

    def elsewhere(name: str, kill_at: int) -> int:
        command = [*warm("tests.train.fault_jobs"), str(tmp_path / name), action, str(kill_at)]
        return subprocess.run(command, cwd=REPO, check=False).returncode

    assert elsewhere("straight", -1) == 0
    assert elsewhere("killed", 123) == -signal.SIGKILL
    assert len(events(tmp_path / "killed", "fault")) == 1
    assert elsewhere("killed", -1) == 0
    assert_equal(weights(tmp_path / "straight"), weights(tmp_path / "killed"))
    states = [
        json.loads((tmp_path / name / "checkpoints" / "step-000030" / "state.json").read_text())
        for name in ("straight", "killed")
    ]
    for state in states:
        del state["train_seconds"]
    assert states[0] == states[1]
    if action == "rollback":  # what was passed over stands in the journal: the fault does not come again
        assert len(events(tmp_path / "killed", "fault")) == 1


def test_a_damaged_journal_is_said(tmp_path: Path) -> None:
    """Exit 3, naming the file."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "skipped-samples.json").write_text('[{"first": 1}]')
    with pytest.raises(DataError, match=r"skipped-samples.json is damaged"):
        run_in(tmp_path, faulty_job())


def test_a_spike_is_only_told_by_default(tmp_path: Path) -> None:
    """The weights are those of a run that does not look."""
    job = faulty_job(range(132, 138), "noise", {"spike_window": 8, "spike_sigma": 4})
    run_in(tmp_path / "warned", job)
    run_in(tmp_path / "blind", replace(job, faults=FaultPolicy(spike_window=0)))
    assert_equal(weights(tmp_path / "warned"), weights(tmp_path / "blind"))
    [fault] = events(tmp_path / "warned", "fault")
    assert (fault["reason"], fault["action"], fault["first_sample"]) == ("spike", "warn", 132)
    assert not events(tmp_path / "blind", "fault")


@pytest.mark.slow
def test_all_ranks_decide_together(tmp_path: Path) -> None:
    """NaN in one rank's share alone: both skip, then both roll back; one process does the same."""
    settings = {"on_nonfinite": "rollback", "margin": 0}
    for ranks in (1, 2):
        job = faulty_job(range(65, 66), faults=settings, checkpoint_every=5, world_size=ranks, recipe={"steps": 14})
        seen: list[dict[str, Any]] = []
        assert run_in(tmp_path / str(ranks), job, Context(show_metrics=seen.append))["steps"] == 14
        assert seen[-1]["step"] == 14
    for name in ("fault", "rollback"):
        found = (events(tmp_path / str(ranks), name) for ranks in (1, 2))
        one, two = ([{**event, "time": 0, "elapsed": 0} for event in some] for some in found)
        assert one == two
        assert len(one) == 1
    alone, together = weights(tmp_path / "1", 14), weights(tmp_path / "2", 14)
    assert alone.keys() == together.keys()
    assert all(tensor.isfinite().all() for tensor in together.values())


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp", "tp"])
def test_every_strategy_goes_back_exactly(tmp_path: Path, parallel: str) -> None:
    """Two processes with all of the model, or with parts of it: after a rollback, weights as if samples were cut out."""
    settings = {"on_nonfinite": "rollback", "margin": 0}
    more: dict[str, Any] = {"checkpoint_every": 5, "world_size": 2, "strategy": parallel, "recipe": {"steps": 14}}
    back = faulty_job(range(67, 68), faults=settings, **more)
    cut = replace(back, train_sources=only(partial(WithoutSome, 66, 72)))
    found = []
    for name, job in (("back", back), ("cut", cut)):
        assert run_in(tmp_path / name, job)["steps"] == 14
        model = whole_model(job)
        newest = checkpoint_folders.latest_valid(tmp_path / name)
        assert newest is not None
        load_weights_into(model, newest)
        found.append(model.state_dict())
    assert [event["step"] for event in events(tmp_path / "back", "rollback")] == [10]
    assert_equal(*found)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)],
    ids=lambda x: str(int(x)),
)
def test_signals_save_and_leave(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """As Slurm's --signal=USR1 sends before the time is up: the state is saved, and the exit code tells which it was."""
    context = Context()

    def send(done: float, total: float | None, unit: str, note: str = "") -> None:
        if done == 10:
            os.kill(os.getpid(), number)

    with context.stop, pytest.raises(StoppedError) as caught:
        run_in(tmp_path, make_job(), replace(context, progress=send))
    assert caught.value.exit_code == code
    assert checkpoint_folders.latest_valid(tmp_path) == tmp_path / "checkpoints" / "step-000011"


@pytest.mark.slow
def test_a_signal_inside_a_step_does_not_wait_for_its_end(tmp_path: Path) -> None:
    """With gradient accumulation the step is given up after the micro-batch and done again by the resume."""
    context = Context()
    read: list[int] = []

    class Counting(WithoutSome):
        def batch(self, first_index: int, count: int) -> Batch:
            read.append(first_index)
            if first_index == 8 * 6 + 2:
                context.stop.signal_number = signal.SIGTERM
            return super().batch(first_index, count)

    job = make_job(micro_batch_size=1)
    with pytest.raises(StoppedError, match="after step 8"):
        run_in(tmp_path / "stopped", replace(job, train_sources=only(partial(Counting, 9999, 9999))), context)
    assert read[-1] == 8 * 6 + 2
    run_in(tmp_path / "stopped", job)
    run_in(tmp_path / "straight", job)
    assert_equal(weights(tmp_path / "stopped"), weights(tmp_path / "straight"))
