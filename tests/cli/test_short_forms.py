"""Flags that set keys of the table training: flag > --set > file, one value in the record, one identity of the run."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from gptctl.stages.finetune import Finetune
from gptctl.stages.pretrain import Pretrain
from tests.conftest import Ran

Gptctl = Callable[..., Ran]


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        ("--lr 1e-3", "lr", 0.001),
        ("--lr 1e-3 --set training.lr=0.5", "lr", 0.001),
        ("--lr 1e-3 --config c.toml", "lr", 0.001),
        ("--set lr=0.5 --config c.toml", "lr", 0.5),
        ("--config c.toml", "lr", 0.25),
        ("--preset gpt2 --optimizer muon --set training.matrix_lr=0.05", "matrix_lr", 0.05),
        ("--steps 7", "steps", 7),
    ],
)
def test_the_highest_layer_wins(gptctl: Gptctl, tmp_path: Path, words: str, key: str, value: float) -> None:
    (tmp_path / "c.toml").write_text("[pretrain.training]\nlr = 0.25\n")
    done = gptctl("pretrain", "t", "-o", "r", *words.split(), "--print-config")
    assert done.code == 0, done.err
    shown = tomllib.loads(done.out.decode())
    assert (shown["training"][key], key in shown) == (value, False)


def test_the_context_follows_seq_len() -> None:
    config = Pretrain(seq_len=32)
    assert (config.training.seq_len, config.model.max_seq_len) == (32, 32)


def test_both_ways_are_the_same_settings() -> None:
    """The record holds the values that training uses."""
    short = Pretrain(preset="gpt2", lr=0.5, optimizer="muon", steps=3, batch_tokens=2048)
    assert short.settings()["training"]["batch_size"] == 2
    assert {"lr", "steps"} & short.settings().keys() == set()
    long = Pretrain(preset="gpt2", training={"lr": 0.5, "optimizer": "muon", "steps": 3}, batch_tokens=2048)
    assert short.settings() == long.settings()
    given = {"base": "m", "data": ("d",), "out": "o"}
    tables = {"training": {"lr": 0.5, "batch_size": 3}}
    assert Finetune(**given, lr=0.5, batch_size=3).settings() == Finetune(**given, **tables).settings()


@pytest.mark.slow
def test_more_steps_by_any_name(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    """A run started with flags goes on with the same values from --set, and with more steps."""
    command = ("pretrain", workspace / "tokens", "-o", tmp_path / "run", "--preset", "test-modern", "--device", "cpu")
    assert gptctl(*command, "--steps", "1", "--lr", "0.01").code == 0
    same = ("--set", "training.steps=1", "--set", "training.lr=0.01", "--json")
    assert gptctl(*command, *same).json["status"] == "up to date"
    assert json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["training"]["lr"] == 0.01
    more = gptctl(*command, "--config", tmp_path / "run" / "config.toml", "--set", "training.steps=2", "--json")
    assert more.json["metrics"]["steps"] == 2, more.err
