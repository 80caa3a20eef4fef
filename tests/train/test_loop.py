"""The loop: exact resume, budgets, signals, divergence, and gradients that do not depend on how a batch is cut."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gptctl.core.context import Context
from gptctl.core.errors import DivergedError, MachineError, StoppedError, UsageError
from gptctl.model.classifier import Classifier
from gptctl.model.cross_entropy import cross_entropy_sum
from gptctl.model.folder import load_model
from gptctl.model.saved_model import load_weights_into
from gptctl.train.checkpoints import checkpoint_folders
from gptctl.train.checkpoints.load_checkpoint import read_progress
from gptctl.train.data.batch import Batch
from gptctl.train.data.labelled_texts import LabelledTexts
from gptctl.train.data.token_windows import TokenWindows
from gptctl.train.distributed.launch import as_gptctl_error
from tests.conftest import REPO, warm
from tests.train.jobs import (
    VOCABULARY,
    WholeModel,
    assert_equal,
    build,
    events,
    make_job,
    only,
    run_in,
    text,
    weights,
    whole_model,
    windows,
)  # fmt: skip


def elsewhere(folder: Path, preset: str, dropout: float, kill_at: int) -> int:
    """Train in a process of its own; give its exit code."""
    command = [*warm("tests.train.jobs"), str(folder), preset, str(dropout), str(kill_at)]
    return subprocess.run(command, cwd=REPO, check=False).returncode


@pytest.mark.parametrize(
    ("preset", "dropout"), [pytest.param("test-gpt2", 0.0, marks=pytest.mark.slow), ("test-modern", 0.1)]
)
def test_killed_and_resumed_is_never_interrupted(tmp_path: Path, preset: str, dropout: float) -> None:
    """kill -9 in step 18, then the same command in a fresh process: every bit as without."""
    assert elsewhere(tmp_path / "straight", preset, dropout, -1) == 0
    assert elsewhere(tmp_path / "killed", preset, dropout, 17 * 6 + 5) == -signal.SIGKILL
    found = checkpoint_folders.latest_valid(tmp_path / "killed")
    assert found is not None
    assert found.name in ("step-000012", "step-000016")  # the last one may have been under way
    assert elsewhere(tmp_path / "killed", preset, dropout, -1) == 0
    assert_equal(weights(tmp_path / "straight"), weights(tmp_path / "killed"))
    straight, killed = (
        json.loads((tmp_path / name / "checkpoints" / "step-000030" / "state.json").read_text())
        for name in ("straight", "killed")
    )
    for state in (straight, killed):
        del state["train_seconds"]
    assert straight == killed


def test_it_learns_and_says_so(tmp_path: Path) -> None:
    """The loss falls; metrics, events and checkpoints agree; val_loss is the mean over the whole split."""
    metrics = run_in(
        tmp_path,
        make_job(
            "test-modern", recipe={"steps": 60}, eval_every=20, log_every=5, keep_checkpoints=1, checkpoint_every=25
        ),
    )
    assert metrics["steps"] == 60
    assert metrics["tokens"] == 60 * 6 * 32
    assert metrics["val_loss"] < 3.6
    logged, evaluated = events(tmp_path, "step"), events(tmp_path, "eval")
    assert [line["step"] for line in logged] == list(range(5, 61, 5))
    assert logged[-1]["loss"] == metrics["train_loss"] < logged[0]["loss"]
    assert {"lr", "tokens_per_second", "grad_norm"} <= logged[0].keys()
    assert [line["step"] for line in evaluated] == [20, 40, 60]
    assert [path.name for path in checkpoint_folders.list_checkpoints(tmp_path / "checkpoints")] == ["step-000060"]
    model, *_ = load_model(tmp_path / "checkpoints" / "step-000060")
    val = torch.from_numpy(text()[36_000:].astype(np.int64))
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(val) - 1, 32):
            piece = val[start : start + 33][None]
            total += cross_entropy_sum(model(piece[:, :-1]), piece[:, 1:])[0].item()
    assert metrics["val_loss"] == pytest.approx(total / (len(val) - 1), rel=1e-5)
    assert metrics["parameters"] == model.config.parameters()


@pytest.mark.parametrize("micro_batch_size", [1, 4])
def test_accumulation_does_not_change_the_update(tmp_path: Path, micro_batch_size: int) -> None:
    """Six sequences at once, or in unequal parts."""
    run_in(tmp_path / "whole", make_job(recipe={"steps": 3}))
    run_in(tmp_path / "parts", make_job(recipe={"steps": 3}, micro_batch_size=micro_batch_size))
    whole, parts = weights(tmp_path / "whole", 3), weights(tmp_path / "parts", 3)
    for name in whole:
        torch.testing.assert_close(whole[name], parts[name], atol=2e-5, rtol=1e-3)


def test_more_steps_extend_a_run(tmp_path: Path) -> None:
    """The second call goes on where the first one ended."""
    run_in(tmp_path, make_job(recipe={"steps": 10}))
    metrics = run_in(tmp_path, make_job(recipe={"steps": 15}))
    assert metrics["steps"] == 15
    assert [line["step"] for line in events(tmp_path, "resumed")] == [10]


def test_tokens_round_up_to_whole_steps(tmp_path: Path) -> None:
    assert run_in(tmp_path, make_job(max_tokens=6 * 32 * 4 + 1))["steps"] == 5


def test_patience_stops_and_the_best_is_kept(tmp_path: Path) -> None:
    """A learning rate that ruins the model after a good start: stop after two worse evaluations, best weights kept."""
    job = make_job(
        recipe={"steps": 400, "lr": 0.05, "schedule": "constant", "warmup_steps": 300, "grad_clip": 0.0},
        eval_every=10,
        patience=2,
    )
    metrics = run_in(tmp_path, job)
    assert metrics["steps"] == metrics["best_step"] + 20 < 400
    model = whole_model(job)
    best = checkpoint_folders.best_or_latest(tmp_path)
    load_weights_into(model, best)
    state = read_progress(best)
    assert state["step"] == metrics["best_step"]
    assert state["val"]["loss"] == min(line["val_loss"] for line in events(tmp_path, "eval"))


def test_divergence_is_an_error_before_it_is_an_update(tmp_path: Path) -> None:
    """Exit 6, naming the step; the last good checkpoint stays good."""
    job = make_job(recipe={"lr": 1e18, "warmup_steps": 0, "grad_clip": 0.0, "schedule": "constant"}, checkpoint_every=1)
    with pytest.raises(DivergedError, match=r"diverged at step \d+") as caught:
        run_in(tmp_path, job)
    assert caught.value.exit_code == 6
    kept = checkpoint_folders.latest_valid(tmp_path)
    assert kept is not None
    assert all(torch.isfinite(tensor).all() for tensor in load_file(kept / "model.safetensors").values())


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_learning_rates_of_an_optimizer(tmp_path: Path, optimizer: str) -> None:
    """Muon has a rate of its own for matrices: in the events, and in the hint after a divergence."""
    recipe = {"optimizer": optimizer, "lr": 1e-3, "matrix_lr": 2e-3, "warmup_steps": 2, "steps": 1}
    run_in(tmp_path / "fine", make_job(recipe=recipe, log_every=1))
    [step] = events(tmp_path / "fine", "step")
    assert (step["lr"], step.get("matrix_lr")) == (5e-4, 1e-3 if optimizer == "muon" else None)
    wild = {"lr": 1e18, "matrix_lr": 1e18, "warmup_steps": 0, "grad_clip": 0.0, "steps": 9}
    with pytest.raises(DivergedError) as caught:
        run_in(tmp_path / "wild", make_job(recipe=recipe | wild))
    rates = "--lr and training.matrix_lr" if optimizer == "muon" else "--lr"
    assert caught.value.hint == f"use a lower {rates} or a longer warm-up, with another -o"


def test_a_signal_saves_and_the_same_command_goes_on(tmp_path: Path) -> None:
    """SIGTERM while training: exit 143, and in the end the weights of a run without it."""

    def ask_to_stop(done: float, total: float | None, unit: str, note: str = "") -> None:
        if done == 10:
            context.stop.signal_number = signal.SIGTERM

    context = Context(progress=ask_to_stop)
    with pytest.raises(StoppedError) as caught:
        run_in(tmp_path / "stopped", make_job(), context)
    assert caught.value.exit_code == 143
    run_in(tmp_path / "stopped", make_job())
    run_in(tmp_path / "straight", make_job())
    assert [line["step"] for line in events(tmp_path / "stopped", "resumed")] == [11]
    assert_equal(weights(tmp_path / "straight"), weights(tmp_path / "stopped"))


def test_a_signal_inside_an_evaluation_is_served(tmp_path: Path) -> None:
    """The evaluation is repeated after the resume, so the best weights are the same."""
    context = Context()

    class Rude:
        def __init__(self) -> None:
            self.windows = windows("val", 32, 7)
            self.samples_per_epoch = 1

        def batch(self, first_index: int, count: int) -> Batch:
            raise AssertionError

        def sequential(self, batch_size: int, rank: int = 0, ranks: int = 1, limit: int = 0) -> Any:
            for batch in self.windows.sequential(batch_size, rank, ranks):
                context.stop.signal_number = signal.SIGINT
                yield batch

    with pytest.raises(StoppedError) as caught:
        run_in(tmp_path, replace(make_job(eval_every=10), val_data=Rude), context)
    assert caught.value.exit_code == 130
    assert not events(tmp_path, "eval")
    metrics = run_in(tmp_path, make_job(eval_every=10))
    assert [line["step"] for line in events(tmp_path, "eval")] == [10, 20, 30]
    assert metrics["steps"] == 30


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("optimizer.safetensors", "state.json", "manifest.json")
        ),
    ],
)
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, name: str) -> None:
    """The one before it is used, with a warning, and the end is the same."""
    run_in(tmp_path / "straight", make_job())
    run_in(tmp_path / "hurt", make_job(recipe={"steps": 30}, checkpoint_every=10, keep_checkpoints=3))
    path = tmp_path / "hurt" / "checkpoints" / "step-000030" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    warnings: list[str] = []
    run_in(tmp_path / "hurt", make_job(), Context(warn=warnings.append))
    assert any("step-000030" in warning for warning in warnings)
    assert events(tmp_path / "hurt", "resumed")[-1]["step"] == 20
    assert_equal(weights(tmp_path / "straight"), weights(tmp_path / "hurt"))


def test_no_gpu_is_said_plainly(tmp_path: Path) -> None:
    """Exit 4 with the way out."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(MachineError, match="1 GPUs requested, 0 found") as caught:
        run_in(tmp_path, make_job(device="cuda"))
    assert "--dry-run" in str(caught.value.hint)


def without_memory() -> TokenWindows:
    """Fail as torch does on a GPU that is full."""
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of ...")


def test_a_full_gpu_is_said_plainly(tmp_path: Path) -> None:
    """Exit 4 with what was asked for and the way out, on one device and in a rank of several."""
    with pytest.raises(MachineError, match=r"^out of memory: tried to allocate 20\.00 GiB$") as caught:
        run_in(tmp_path, replace(make_job(), train_sources=only(without_memory)))
    assert "micro_batch_size=1" in str(caught.value.hint)
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)
    known = as_gptctl_error(caught.value.__cause__)
    assert isinstance(known, MachineError)
    assert (known.message, known.hint) == (caught.value.message, caught.value.hint)


def labelled(split: str) -> LabelledTexts:
    """Lines of source code that are comments or not: a task with an answer."""
    lines = [line for line in bytes(text().astype(np.uint8)).decode("ascii", "replace").splitlines() if len(line) > 4]
    chosen = lines[::5] if split == "val" else [line for i, line in enumerate(lines) if i % 5]
    tokens = [np.frombuffer(line.encode()[:32], np.uint8).astype(np.int64) for line in chosen]
    return LabelledTexts([[each] for each in tokens], [int(line.startswith("        ")) for line in chosen], 0, split)


def classifier(seed: int) -> Classifier:
    """Build a small classifier."""
    from gptctl.model.config import ModelConfig, load_preset

    config = ModelConfig.model_validate(
        load_preset("test-modern")["model"] | {"vocab_size": VOCABULARY, "max_seq_len": 32}
    )
    return Classifier(build(config, seed), 2, seed)


@pytest.mark.slow
def test_the_same_loop_finetunes_a_classifier(tmp_path: Path) -> None:
    """Indented deeply or not: learned to more than 95 % in a few steps; accuracy and F1 are reported and select."""
    job = replace(
        make_job("test-modern", recipe={"steps": 120, "batch_size": 16, "lm_weight": 0.1}),
        model=WholeModel(partial(classifier, 0)),
        train_sources=only(partial(labelled, "train")),
        val_data=partial(labelled, "val"),
        objective="classification",
        select_on="f1",
        eval_every=40,
    )
    metrics = run_in(tmp_path, job)
    assert metrics["val_accuracy"] > 0.95
    assert 0.9 < metrics["val_f1"] <= 1
    model, *_ = load_model(tmp_path / "checkpoints" / "best")
    assert isinstance(model, Classifier)


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """gloo, unequal shares (3 sequences of 6 each, then 5 over 2): weights as from one process, resume bit-equal."""
    recipe = {"steps": 6, "batch_size": 5}
    run_in(tmp_path / "one", make_job(recipe=recipe, eval_every=3))
    said: list[str] = []
    context = Context(progress=lambda done, total, unit, note="": said.append(note))
    metrics = run_in(tmp_path / "two", make_job(recipe=recipe, world_size=2, eval_every=3, log_every=1), context)
    one, two = weights(tmp_path / "one", 6), weights(tmp_path / "two", 6)
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=2e-5, rtol=1e-3)
    assert metrics["tokens"] == 6 * 5 * 32
    assert metrics["val_loss"] == pytest.approx(events(tmp_path / "one", "eval")[-1]["val_loss"], rel=1e-4)
    assert len(said) == 6
    run_in(tmp_path / "halves", make_job(recipe=recipe, world_size=2, model={"dropout": 0.1}, max_tokens=3 * 5 * 32))
    run_in(tmp_path / "halves", make_job(recipe=recipe, world_size=2, model={"dropout": 0.1}))
    assert [line["step"] for line in events(tmp_path / "halves", "resumed")] == [3]


@pytest.mark.slow
def test_a_rank_that_dies_is_named(tmp_path: Path) -> None:
    """kill -9 of one rank: exit 4, no traceback, and the same command resumes."""
    with pytest.raises(MachineError, match=r"rank \d was killed by SIGKILL") as caught:
        run_in(tmp_path, make_job(world_size=2, checkpoint_every=5, kill_at=12 * 6 + 4))
    assert "same command" in str(caught.value.hint)
    assert run_in(tmp_path, make_job(world_size=2))["steps"] == 30
    assert events(tmp_path, "resumed")[-1]["step"] in (5, 10)  # the last one may have been under way


@pytest.mark.slow
def test_errors_of_a_rank_reach_the_user(tmp_path: Path) -> None:
    """Same class, message and hint as from one process."""
    job = make_job(recipe={"lr": 1e18, "warmup_steps": 0, "grad_clip": 0.0, "schedule": "constant"}, world_size=2)
    with pytest.raises(DivergedError, match="diverged at step") as caught:
        run_in(tmp_path, job)
    assert caught.value.hint == "use a lower --lr or a longer warm-up, with another -o"
    with pytest.raises(UsageError, match="cannot be split over 2"):
        run_in(tmp_path, make_job(recipe={"batch_size": 1}, world_size=2))


@pytest.mark.slow
def test_sigterm_stops_all_ranks_with_their_state_saved(tmp_path: Path) -> None:
    """The parent gets SIGTERM: exit 143 and a checkpoint that resumes."""
    script = (
        "import sys; from pathlib import Path; from tests.train.jobs import *\n"
        "from gptctl.core.errors import StoppedError\n"
        "try: run_in(Path(sys.argv[1]), make_job(recipe={'steps': 100000}, world_size=2, log_every=1))\n"
        "except StoppedError as error: sys.exit(error.exit_code)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=REPO)
    while not (tmp_path / "events.jsonl").exists():
        assert child.poll() is None
        time.sleep(0.2)
    os.kill(child.pid, signal.SIGTERM)
    assert child.wait(timeout=120) == 143
    found = checkpoint_folders.latest_valid(tmp_path)
    assert found is not None
    assert json.loads((found / "state.json").read_text())["step"] > 0
