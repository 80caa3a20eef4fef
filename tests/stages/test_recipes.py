"""The recipe in one word, and faults, through the command line."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPO, Ran

Gptctl = Callable[..., Ran]
PAGE = REPO / "docs" / "pretrain.md"


def training(done: Ran) -> dict[str, Any]:
    """Read the [training] table that --print-config shows."""
    assert done.code == 0, done.err
    table: dict[str, Any] = tomllib.loads(done.out.decode())["training"]
    return table


def test_one_word_makes_a_recipe_modern_and_back(gptctl: Gptctl) -> None:
    """Flags and --set lie above it, as above every preset."""
    show = ("pretrain", "t", "-o", "r", "--preset", "gpt2", "--print-config")
    own = training(gptctl(*show))
    assert (own["optimizer"], own["schedule"], own["lr"], own["warmup_steps"]) == ("adamw", "cosine", 6e-4, 2000)
    assert training(gptctl(*show, "--recipe", "paper")) == own
    modern = training(gptctl(*show, "--recipe", "modern"))
    assert (modern["optimizer"], modern["schedule"], modern["matrix_lr"]) == ("muon", "wsd", 0.02)
    assert (modern["batch_size"], modern["steps"], modern["warmup_steps"]) == (512, 600_000, 2000)
    other = training(gptctl(*show, "--recipe", "modern", "--set", "training.schedule=linear"))
    assert (other["optimizer"], other["schedule"]) == ("muon", "linear")


def test_a_paper_that_does_not_exist(gptctl: Gptctl) -> None:
    """Exit 2, with the way out."""
    done = gptctl("pretrain", "t", "-o", "r", "--preset", "modern-124", "--recipe", "paper", "--dry-run")
    assert done.code == 2
    assert "no published recipe for modern-124" in done.err
    assert "hint: leave --recipe out" in done.err


@pytest.mark.slow
def test_the_word_itself_is_no_setting(gptctl: Gptctl, workspace: Path) -> None:
    """What it stands for is: the same recipe under another word is up to date, another recipe is a conflict."""
    command = ("pretrain", workspace / "tokens", "-o", "run", "--preset", "test-gpt2", "--steps", "4")
    assert gptctl(*command).code == 0
    assert gptctl(*command, "--recipe", "paper", "--json").json["status"] == "up to date"
    done = gptctl(*command, "--recipe", "modern")
    assert done.code == 5
    assert "training.optimizer (was 'adamw', now 'muon')" in done.err


def test_a_run_that_only_diverges_ends_with_6(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    """Skipping does not help where the weights are ruined: so many batches in a row, then exit 6."""
    done = gptctl(
        "pretrain", workspace / "tokens", "-o", "run", "--preset", "test-gpt2", "--lr", "1e30", "--steps", "50",
        "--set", "training.grad_clip=0", "--set", "training.warmup_steps=0", "--set", "faults.on_nonfinite=skip",
        "--set", "faults.max_skips=3",
    )  # fmt: skip
    assert done.code == 6, done.err
    assert done.err.count("are skipped") == 3
    assert len(done.error_lines) == 2
    lines = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    assert [line["action"] for line in lines if line["event"] == "fault"] == ["skip"] * 3 + ["stop"]


def test_keys_of_faults_are_checked(gptctl: Gptctl) -> None:
    """Exit 2, naming key and choices; the nearest for a slip."""
    done = gptctl("pretrain", "t", "-o", "r", "--set", "faults.on_nonfinite=ignore", "--set", "faults.on_spyke=skip")
    assert done.code == 2
    assert "takes stop, skip or rollback, not 'ignore'" in done.err
    assert "did you mean 'faults.on_spike'?" in done.err


@pytest.mark.slow
def test_samples_are_in_the_events(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    """One an evaluation by default, none where none is wanted, which is no other run."""
    command = (
        "pretrain",
        workspace / "tokens",
        "-o",
        "run",
        "--preset",
        "test-modern",
        "--steps",
        "4",
        "--set",
        "eval_every=2",
    )
    assert gptctl(*command, "--set", "sample_prompt=The ").code == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    samples = [line for line in lines if line["event"] == "sample"]
    assert [line["step"] for line in samples] == [2, 4]
    assert all(line["text"].startswith("The ") for line in samples)
    assert gptctl(*command, "--set", "sample_every=0", "--json").json["status"] == "up to date"


def test_the_settings_file_of_the_documentation(gptctl: Gptctl, tmp_path: Path) -> None:
    """The TOML of docs/pretrain.md is read, with each key where it belongs."""
    block = PAGE.read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0]
    (tmp_path / "c.toml").write_text(block)
    done = gptctl("pretrain", "t", "-o", "r", "--config", "c.toml", "--print-config")
    assert done.code == 0, done.err
    shown = tomllib.loads(done.out.decode())
    assert (shown["preset"], shown["training"]["steps"], shown["loggers"]) == ("gpt2", 20000, ["tensorboard"])
    assert (shown["faults"]["on_nonfinite"], shown["checkpoint"]["every"]) == ("rollback", 250)


def test_the_events_of_the_documentation_are_those_of_a_run(workspace: Path) -> None:
    """Each event and each field of "step" in docs/pretrain.md, and no other."""
    rows = {row.split("`")[1]: row for row in PAGE.read_text(encoding="utf-8").splitlines() if row.startswith("| `")}
    lines = [json.loads(line) for line in (workspace / "run" / "events.jsonl").read_text().splitlines()]
    assert {line["event"] for line in lines} - {"start"} <= rows.keys()
    [fields] = {frozenset(line) for line in lines if line["event"] == "step"}
    assert fields - {"time", "elapsed", "event", "step"} == set(re.findall(r"`(\w+)`", rows["step"])) - {
        "step",
        "log_every",
    }
