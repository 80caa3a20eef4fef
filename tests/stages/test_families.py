"""Bands, experts and a recipe's options through the real command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Ran, documents, run_gptctl, write_jsonl

Gptctl = Callable[..., Ran]
NEW = ("test-gpt3", "test-moe")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokenize 60 short documents."""
    folder = tmp_path_factory.mktemp("families")
    write_jsonl(folder / "raw.jsonl", documents(60, words=25))
    done = run_gptctl(
        "tokenize", "raw.jsonl", "-o", "tokens", "--vocab-size", 300, "--val", 0.1, "--test", 0, cwd=folder
    )
    assert done.code == 0, done.err
    return folder / "tokens"


@pytest.mark.parametrize("preset", ["test-gpt3", pytest.param("test-moe", marks=pytest.mark.slow)])
def test_masked_checkpointed_and_packed(gptctl: Gptctl, tokens: Path, tmp_path: Path, preset: str) -> None:
    """All options at once: the model knows its end-of-text, and goes on with a text."""
    command = ("pretrain", tokens, "--preset", preset, "--steps", 6, "--json", "--set", "pack=bestfit")
    options = ("--set", "training.document_mask=true", "--set", "training.checkpoint_activations=true")
    done = gptctl(*command, *options, "-o", "masked")
    assert done.code == 0, done.err
    assert done.json["metrics"]["val_loss"] < 5.6
    config = json.loads((tmp_path / "masked" / "model" / "config.json").read_bytes())["gptctl"]
    assert 0 <= config["end_of_text"] < config["vocab_size"]
    made = gptctl("generate", "masked", "The", "--max-tokens", 40, "--temperature", 0)
    assert made.code == 0, made.err
    assert made.out.strip()


@pytest.mark.slow
def test_the_mask_reaches_training_and_evaluation(gptctl: Gptctl, tokens: Path) -> None:
    """Untrained weights score another loss where documents stay apart; trained ones another again."""
    losses = []
    for mask in ("false", "true"):
        for steps in (0, 4):
            done = gptctl(
                "pretrain", tokens, "-o", f"run-{mask}-{steps}", "--steps", steps, "--json",
                "--preset", "test-gpt2", "--set", f"training.document_mask={mask}",
            )  # fmt: skip
            assert done.code == 0, done.err
            losses.append(done.json["metrics"]["val_loss"])
    assert len(set(losses)) == 4


@pytest.mark.slow
@pytest.mark.parametrize("preset", NEW)
def test_two_processes_and_micro_batches_train_as_one(
    gptctl: Gptctl, tokens: Path, tmp_path: Path, preset: str
) -> None:
    """Ranks and accumulation cut a batch in other ways; the losses of the experts' routers do not notice."""
    router = ("--set", "training.aux_loss_weight=0.3") if preset == "test-moe" else ()
    losses = []
    for name, cut in (("whole", ()), ("cut", ("--nproc-per-node", 2, "--set", "micro_batch_size=3"))):
        command = ("pretrain", tokens, "-o", name, "--preset", preset, "--device", "cpu", "--steps", 8, "--json")
        done = gptctl(*command, *router, *cut)
        assert done.code == 0, done.err
        losses.append(done.json["metrics"]["val_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
