"""What a command would refuse after some minutes of work, it refuses at once, and its dry run does too."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from gptctl.cli.resolve import resolve
from gptctl.cli.stages import STAGES
from gptctl.core import plugins
from gptctl.core.config import Layer
from gptctl.core.context import Context
from gptctl.core.errors import GptctlError
from tests.conftest import write_jsonl


def refusal(stage: str, dry_run: bool, values: dict[str, Any]) -> tuple[int, str]:
    """Return the exit code and the message with which a command ends, run or planned."""
    with pytest.raises(GptctlError) as caught:
        config, _ = resolve(stage, Layer("flag", values))
        module = plugins.load(STAGES, stage)
        (module.plan if dry_run else module.run)(config, Context())
    return caught.value.exit_code, caught.value.message


def assert_refused(stage: str, code: int, words: str, **values: Any) -> None:
    """Assert that a command and its dry run end alike."""
    run = refusal(stage, False, values)
    assert run == refusal(stage, True, values)
    assert run[0] == code and words in run[1], run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_pretrain(here: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    base = {"tokens": [str(workspace / "tokens")], "out": "run", "preset": "test-modern", "steps": 2, "device": "cpu"}
    assert_refused("pretrain", 2, "no logger is called 'wanb'", **base, loggers=["wanb"])
    assert_refused("pretrain", 4, "loggers=wandb needs the package wandb", **base, loggers=["wandb"])
    needed = "--nodes 4 needs --rdzv-endpoint HOST:PORT"
    assert_refused("pretrain", 2, needed, **base, nodes=4)
    assert refusal("pretrain", True, base | {"nodes": 4}) == (2, needed)
    assert_refused("pretrain", 2, f"{needed}, not 'host'", **base, nodes=4, rdzv_endpoint="host")
    assert not (here / "run").exists()


def test_patience_needs_a_val_split(here: Path, workspace: Path) -> None:
    """Nothing would ever end the run early; what else asks for evaluations is said to have no effect."""
    config, _ = resolve(
        "tokenize", Layer("flag", {"inputs": [str(workspace / "unique")], "out": "tokens", "vocab_size": 300, "val": 0,
                                   "test": 0, "executor": "serial"}),
    )  # fmt: skip
    plugins.load(STAGES, "tokenize").run(config, Context())
    base = {"tokens": ["tokens"], "out": "run", "preset": "test-modern", "steps": 2, "device": "cpu"}
    assert_refused("pretrain", 2, "patience needs a val split, and TOKENS has none", **base, patience=3)
    warnings: list[str] = []
    config, _ = resolve("pretrain", Layer("flag", base | {"eval_every": 1}))
    plugins.load(STAGES, "pretrain").plan(config, Context(warn=warnings.append))
    assert warnings == ["eval_every has no effect: TOKENS has no val split"]


def test_finetune(here: Path, workspace: Path) -> None:
    shutil.copytree(workspace / "run" / "model", here / "model")
    values = {"model_type": "mamba", "architectures": ["MambaForCausalLM"], "hidden_size": 8, "vocab_size": 9}
    (here / "model" / "config.json").write_text(json.dumps(values))
    (here / "model" / "manifest.json").unlink()  # as in a folder from elsewhere
    base = {"base": str(workspace / "run"), "data": [str(workspace / "labelled")], "out": "classifier", "device": "cpu"}
    assert_refused("finetune", 3, "unknown architecture: Mamba", **base | {"base": "model"})
    assert_refused("finetune", 2, "no logger is called 'wanb'", **base, loggers=["wanb"])
    assert_refused("finetune", 2, "--nodes 2 needs --rdzv-endpoint", **base, nodes=2)
    assert_refused("finetune", 2, "max_seq_len 99999 is longer", **base, max_seq_len=99999)
    assert_refused("finetune", 2, "--lora cannot be used with tensor", **base, lora=2, nproc_per_node=2, parallel="tp")
    assert not (here / "classifier").exists()
    assert_refused("finetune", 2, "nothing.*", **base, freeze=["nothing.*"])


def test_eval_and_generate(here: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl(here / "predictions.jsonl", [{"id": 1, "label": "a", "prediction": "a"}])
    write_jsonl(here / "unlabelled.jsonl", [{"text": "some text"}])
    (here / "empty.txt").write_text("")
    assert_refused("eval", 3, "no column 'pred'", predictions="predictions.jsonl")
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    assert_refused("eval", 4, "--metrics bleu,chrf needs the package sacrebleu", predictions="x", metrics=["bleu"])
    classifier, run = str(workspace / "classifier"), str(workspace / "run")
    assert_refused("eval", 3, "label", model=classifier, data="unlabelled.jsonl", cache="none")
    assert_refused("eval", 3, "cannot do the task classify", model=run, data="unlabelled.jsonl", task="classify")
    assert_refused("eval", 2, "no such folder of tasks", model=run, harness="nowhere")
    assert_refused("generate", 3, "classifier", model=classifier)
    assert_refused("generate", 3, "has no chat template", model=run, chat=True, prompt="hello")
    assert_refused("generate", 3, "contains no prompt", model=run, prompts="empty.txt")
