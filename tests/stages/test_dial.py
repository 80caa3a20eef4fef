"""`gptctl pretrain` without a preset: the best model for a time, a size or a number of tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from gptctl.core import checked_json
from gptctl.core.errors import ConflictError
from gptctl.stages.pretrain import Pretrain
from gptctl.train.tasks.plan_pretraining import check_finished
from tests.conftest import Ran, run_gptctl, tree_bytes

Gptctl = Callable[..., Ran]

SMALL = ("--set", "model.hidden_size=32", "--seq-len", "64", "--batch-tokens", "512", "--device", "cpu")


def plan_of(run: Path) -> dict[str, object]:
    """Return what a run has recorded: the same in plan.json and run.json."""
    plan: dict[str, object] = json.loads((run / "plan.json").read_text())
    assert json.loads((run / "run.json").read_text())["plan"] == plan
    return plan


@pytest.fixture(scope="module")
def timed(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    """A run of 3 seconds."""
    folder = tmp_path_factory.mktemp("timed")
    done = run_gptctl("pretrain", workspace / "tokens", "-o", "run", "--max-minutes", "0.05", *SMALL, cwd=folder)
    assert done.code == 0, done.err
    return folder, done


def test_a_time_is_planned_and_explained(timed: tuple[Path, Ran]) -> None:
    folder, done = timed
    plan = plan_of(folder / "run")
    lines = [line for line in done.err.splitlines() if line.startswith("plan: ")]
    assert lines == plan["reasons"]
    assert len(lines) == 3
    assert "tokens/s on this machine" in lines[0]
    assert plan["minutes"] == 0.05
    assert plan["model"]["hidden_size"] == 32  # type: ignore[index]
    settings = json.loads((folder / "run" / "run.json").read_text())["settings"]
    assert settings["model"] == {"hidden_size": 32, "max_seq_len": 64}  # what was asked for, not what was chosen
    assert "layers" not in (folder / "run" / "config.toml").read_text()


@pytest.mark.slow
def test_equal_plans_give_equal_weights(
    timed: tuple[Path, Ran], workspace: Path, gptctl: Gptctl, tmp_path: Path
) -> None:
    """The plan of another run is followed, whatever this machine's speed is now; so are its totals of steps."""
    folder, _ = timed
    command = ("pretrain", workspace / "tokens", *SMALL)
    followed = ("--follow-plan", folder / "run" / "plan.json")
    for other in (("--lr", "9"), ("--size", "1M"), ("--steps", "7"), ("--max-minutes", "9"), ("--preset", "char-cpu")):
        refused = gptctl(*command, "-o", "refused", *followed, *other)
        assert (refused.code, "--follow-plan" in refused.err) == (2, True), (other, refused.err)
    again = gptctl(*command, "-o", "again", *followed, "--json")
    assert again.code == 0, again.err
    assert plan_of(tmp_path / "again") == plan_of(folder / "run")
    weights = "model/model.safetensors"
    assert tree_bytes(tmp_path / "again", "model")[weights] == tree_bytes(folder / "run", "model")[weights]
    assert gptctl(*command, "-o", "other", "--follow-plan", "nowhere/plan.json").code == 2


def test_a_plan_for_another_tokenizer_is_refused(timed: tuple[Path, Ran], workspace: Path, gptctl: Gptctl) -> None:
    assert gptctl("tokenize", workspace / "raw.jsonl", "-o", "bytes", "--algorithm", "bytes").code == 0
    plan = timed[0] / "run" / "plan.json"
    done = gptctl("pretrain", "bytes", "-o", "other", *SMALL, "--follow-plan", plan)
    assert (done.code, "was made for another tokenizer" in done.err) == (3, True), done.err


def test_a_finished_run_is_up_to_date_and_takes_no_more_minutes(timed: tuple[Path, Ran], workspace: Path) -> None:
    folder, _ = timed
    command = ("pretrain", workspace / "tokens", "-o", "run", *SMALL, "--max-minutes")
    again = run_gptctl(*command, "0.05", "--json", cwd=folder)
    assert again.json["status"] == "up to date"
    assert re.search(r"\bval_loss +\d", again.err) and "next: gptctl generate run" in again.err
    more = run_gptctl(*command, "0.1", cwd=folder)
    assert more.code == 5
    assert "has fallen to its final value" in more.err
    assert "hint: train it further: gptctl finetune run TEXTS -o more --task lm; or train a new run" in more.err


def test_more_tokens_extend_a_finished_run(gptctl: Gptctl, workspace: Path) -> None:
    """They are trained on in the model that was chosen. Minutes are refused, with what the run has trained for."""
    command = ("pretrain", workspace / "tokens", "-o", "run", *SMALL, "--json")
    assert gptctl(*command, "--train-tokens", "1024").json["metrics"]["steps"] == 2
    assert gptctl(*command, "--train-tokens", "2k").json["metrics"]["steps"] == 4
    minutes = gptctl(*command, "--max-minutes", "1")
    assert minutes.code == 5
    assert "has trained for its steps" in minutes.err
    none = gptctl(*command)
    assert none.code == 5
    assert "train_tokens" in none.err


@pytest.mark.parametrize(("minutes", "spent"), [(10.0, "10 min 00 s"), (0.0, "steps")])
def test_more_minutes_for_a_run_without_the_option(tmp_path: Path, minutes: float, spent: str) -> None:
    """The error names the time that was planned, by default or not at all, rather than the one that is asked for."""
    record = {"stage": "pretrain", "pid": 1, "started": "2024-01-01T10:00:00+00:00", "settings": {"max_minutes": 0}}
    files = {"run.json": record, "manifest.json": {}, "plan.json": {"minutes": minutes, "totals": []}}
    for name, content in files.items():
        checked_json.write(tmp_path / name, content)
    with pytest.raises(ConflictError, match=f"has trained for its {spent}, and"):
        check_finished(Pretrain(tokens=("tokens",), max_minutes=20), tmp_path, force=False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--size 5M --preset gpt2", "--size and --preset both choose the model"),
        ("--train-tokens 1M --max-minutes 1", "--train-tokens and --max-minutes both decide"),
        ("--train-tokens 1M --steps 5", "--train-tokens and --steps both decide"),
        ("--max-minutes inf", "--max-minutes takes a number from 0 to 1000000, not 'inf'"),
        ("--size many", "'many' is not a number; write for example 20M"),
        ("--size 5M --set model.layers=3", "model.layers has no effect beside --size"),
        ("--recipe modern", "--recipe has no effect without --preset"),
    ],
)
def test_contradictions_are_exit_2(gptctl: Gptctl, words: str, message: str) -> None:
    done = gptctl("pretrain", "tokens", "-o", "run", *words.split())
    assert (done.code, message in done.err) == (2, True), done.err


def test_a_plan_without_tokens(gptctl: Gptctl) -> None:
    """A size is a plan; an H100 is assumed only if it is asked for."""
    here = gptctl("pretrain", "--size", "300k", "--device", "cpu", "--dry-run", "--json").json["plan"]
    assert {"tokens_per_second", "seconds", "expected_loss"} <= here.keys()
    assert "accelerator" not in here
    there = gptctl("pretrain", "--size", "124M", "--set", "accelerator=h100", "--dry-run", "--json").json["plan"]
    assert there["accelerator"] == "h100"
    nothing = gptctl("pretrain", "--dry-run")
    assert nothing.code == 2
    assert "nothing to plan" in nothing.err


def test_a_plan_has_the_time_of_evaluations(gptctl: Gptctl, workspace: Path) -> None:
    """Also of those that the user asks for: the val split is read every step."""
    command = ("pretrain", workspace / "tokens", "--preset", "test-modern", "--steps", "10", "--dry-run", "--json")
    often = gptctl(*command, "--set", "eval_every=1")
    once = gptctl(*command)
    assert often.code == once.code == 0, often.err + once.err
    assert (often.json["plan"]["evaluations"], once.json["plan"]["evaluations"]) == (10, 1)
    assert often.json["plan"]["evaluation_seconds"] > 0
    assert "10 times the val split" in often.err and "total time" in often.err


def test_a_run_says_that_it_is_mostly_evaluations(gptctl: Gptctl, workspace: Path) -> None:
    command = ("pretrain", workspace / "tokens", "--preset", "test-modern", "--steps", "1", "--device", "cpu", "-o")
    tiny = ("--set", "training.batch_size=1", "--set", "training.seq_len=16")
    done = gptctl(*command, "long", *tiny)
    assert done.code == 0 and "of the time: --set eval_batches=8 makes them short" in done.err, done.err
    short = gptctl(*command, "short", *tiny, "--set", "eval_batches=1")
    assert short.code == 0 and "eval_batches" not in short.err


@pytest.mark.slow
def test_killed_and_resumed_follows_the_plan(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    """kill -9 after the first checkpoints; the same command measures nothing, and its weights are those of its plan."""
    command = ("pretrain", workspace / "tokens", "--max-minutes", "0.2", *SMALL, "--set", "checkpoint.every=5", "-o")
    assert gptctl(*command, "killed", fault="kill:60").code == -9
    before = json.loads((tmp_path / "killed" / "plan.json").read_text())
    done = gptctl(*command, "killed")
    assert done.code == 0, done.err
    assert "as recorded" in done.err
    plan = plan_of(tmp_path / "killed")
    assert {name: plan[name] for name in plan if name != "totals"} == {
        name: before[name] for name in before if name != "totals"
    }
    assert plan["totals"][: len(before["totals"])] == before["totals"]  # type: ignore[index]
    again = gptctl(*command, "again", "--follow-plan", "killed/plan.json")
    assert again.code == 0, again.err
    weights = "model/model.safetensors"
    assert tree_bytes(tmp_path / "again", "model")[weights] == tree_bytes(tmp_path / "killed", "model")[weights]


@pytest.mark.slow
def test_two_processes_follow_one_plan(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    done = gptctl(
        "pretrain", workspace / "tokens", "-o", "run", "--max-minutes", "0.4", *SMALL, "--nproc-per-node", "2"
    )
    assert done.code == 0, done.err
    plan = plan_of(tmp_path / "run")
    assert plan["recipe"]["batch_size"] % 2 == 0  # type: ignore[index]
    assert len(plan["measured"]) >= 1  # type: ignore[arg-type]
