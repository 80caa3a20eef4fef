"""Preference tuning by the command line: what is learned, left out, reported, refused and resumed."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import Ran, read_jsonl, write_jsonl
from tests.train.jobs import events

Gptctl = Callable[..., Ran]
COLOURS = ["red", "green", "blue", "gold", "black", "white", "grey", "pink"]


def rows(count: int) -> list[dict[str, Any]]:
    """Return pairs in which the chosen answer names the colour of the prompt."""
    return [
        {
            "prompt": f"Number {n} likes {COLOURS[n % 8]} and so",
            "chosen": f" it is {COLOURS[n % 8]}.",
            "rejected": " we go home.",
        }
        for n in range(count)
    ]


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a run's model."""
    return load_file(run / "model" / "model.safetensors")


@pytest.mark.slow
def test_the_chosen_answer_is_preferred(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    """Accuracy rises to 1 on held-out prompts. What cannot be learned from is counted, listed and said."""
    more = [
        {"prompt": "a", "chosen": "b", "rejected": "b"},
        {"prompt": "a", "chosen": " ", "rejected": "b"},
        {"prompt": "word " * 999, "chosen": "b", "rejected": "c"},
        {"prompt": "a", "chosen": "b", "rejected": [{"role": "assistant", "content": "c"}]},
    ]
    write_jsonl(tmp_path / "train.jsonl", [*rows(64), *more])
    (tmp_path / "pairs").mkdir()
    (tmp_path / "train.jsonl").rename(tmp_path / "pairs" / "train.jsonl")
    write_jsonl(tmp_path / "pairs" / "val.jsonl", rows(72)[56:])
    command = ("finetune", workspace / "run", "pairs", "--task", "preference", "--set", "max_bad=0.1", "--json", "-o")
    done = gptctl(*command, "dpo", "--lr", "3e-3", "--batch-size", "8", "--select-on", "reward_accuracy")
    assert done.code == 0, done.err
    metrics = done.json["metrics"]
    assert "train: the pairs have the columns prompt, chosen, rejected" in done.err
    assert metrics["best_val_reward_accuracy"] == 1
    assert metrics["val_reward_margin"] > 1
    names = ("pairs", "equal", "without_answer", "too_long", "unreadable", "prompt_in_val")
    assert [metrics[f"train_{name}"] for name in names] == [56, 1, 1, 1, 1, 8]
    reasons = [row["reason"] for row in read_jsonl(tmp_path / "dpo" / "quarantine.jsonl")]
    assert len(reasons) == 12
    first, *_ = events(tmp_path / "dpo", "step")
    assert {"reward_chosen", "reward_rejected", "reward_margin", "reward_accuracy", "logps_chosen"} <= first.keys()
    assert "val_reward_margin" in events(tmp_path / "dpo", "eval")[0]
    config = json.loads((tmp_path / "dpo" / "model" / "config.json").read_text())
    assert config["gptctl"].get("dropout", 0) == 0


@pytest.mark.slow
@pytest.mark.parametrize("options", [("--loss", "dpo"), ("--loss", "simpo", "--lora", "4")], ids=["dpo", "simpo"])
def test_killed_and_resumed_is_bit_equal(
    gptctl: Gptctl, workspace: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """The reference is read from MODEL again, never from a checkpoint."""
    write_jsonl(tmp_path / "pairs.jsonl", rows(48))
    command = ("finetune", workspace / "run", "pairs.jsonl", "--task", "preference", *options)
    command += ("--lr", "1e-3", "--batch-size", "4", "--epochs", "3", "-o")
    assert gptctl(*command, "whole").code == 0
    assert gptctl(*command, "killed", fault="kill:40").code == -signal.SIGKILL
    done = gptctl(*command, "killed")
    assert done.code == 0, done.err
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert events(tmp_path / "killed", "resumed")
    last = [events(tmp_path / run, "step")[-1] for run in ("whole", "killed")]
    assert last[0]["reward_margin"] == last[1]["reward_margin"]


@pytest.mark.slow
def test_messages_are_learned_in_the_template(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    """The template goes with the model. LoRA needs whole tables for new tokens, so the reference is a copy then."""
    chats = [
        {
            "chosen": [{"role": "user", "content": f"say {n}"}, {"role": "assistant", "content": "yes"}],
            "rejected": [{"role": "user", "content": f"say {n}"}, {"role": "assistant", "content": "no"}],
        }
        for n in range(40)
    ]
    write_jsonl(tmp_path / "pairs.jsonl", chats)
    command = ("finetune", workspace / "run", "pairs.jsonl", "-o", "run", "--task", "preference", "--lora", "2")
    done = gptctl(*command, "--loss", "ipo", "--lr", "1e-3", "--epochs", "2", "--json")
    assert done.code == 0, done.err
    assert "<|im_start|>" in (tmp_path / "run" / "model" / "tokenizer_config.json").read_text()
    assert (tmp_path / "run" / "adapter" / "adapter_config.json").is_file()


def test_what_is_refused(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    """A loss that is not built, a metric of another task, a split model, and keys without an effect: exit 2."""
    write_jsonl(tmp_path / "pairs.jsonl", rows(8))
    command = ("finetune", workspace / "run", "pairs.jsonl", "-o", "run", "--task", "preference", "--dry-run")
    refused = {
        ("--loss", "kto"): "dpo",
        ("--select-on", "f1"): "--select-on loss or reward_accuracy",
        ("--set", "dropout=0.1"): "dropout has no effect with --task preference",
        ("--set", "preference.simpo_gamma=1"): "preference.simpo_gamma has no effect with --loss dpo",
        ("--nproc-per-node", "2", "--parallel", "fsdp"): "split over processes",
    }
    for options, words in refused.items():
        done = gptctl(*command, *options)
        assert (done.code, words in done.err) == (2, True), done.err
    done = gptctl("finetune", workspace / "run", "pairs.jsonl", "-o", "run", "--select-on", "reward_accuracy")
    assert (done.code, "has no reward_accuracy" in done.err) == (2, True)
    assert not (tmp_path / "run").exists()
