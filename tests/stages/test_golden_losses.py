"""Golden losses: a short training of each family of presets, and a finetuning, reach the losses that were recorded.

A change of names or structure must not change them. Whoever changes results on purpose records them anew, with
`python -m tests.stages.test_golden_losses > tests/stages/golden_losses.json`, and says so in the changelog.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import pytest

from tests.conftest import run_gptctl, write_jsonl

GOLDEN = Path(__file__).with_name("golden_losses.json")
TOLERANCE = 5e-5  # relative; other instruction sets and numbers of threads differed by up to 2.5e-6
STEPS = 12
WORDS = "a model of language reads the text before it and learns what comes next; every word has parts that return"
SHRINK = {"layers": 2, "heads": 4, "hidden_size": 64, "intermediate_size": 128}

# Every family's own small preset, and of those whose recipe has more than the small one the published preset, shrunken.
# Dropout is off: torch draws its masks with other generators on other processors.
RUNS: dict[str, tuple[str, ...]] = {
    "test-vaswani": ("model.dropout=0", "training.warmup_steps=6"),
    "test-gpt1": ("model.dropout=0",),
    "test-gpt2": (),
    "test-gpt3": (),
    "test-modern": (),
    "test-moe": (),
    "char-modern": (),  # squared ReLU
    "gpt3-small": ("training.ramp_start_batch=4", "training.ramp_tokens=1024", "model.sliding_window=16"),
    "moe-8x124": ("training.router_z_weight=0.01",),
}
FLAGS = ("--steps", STEPS, "--device", "cpu", "--set", "precision=fp32", "--set", "log_every=1")
SHORT = ("--seq-len", 32, "--batch-tokens", 512, "--set", "training.warmup_steps=4")


def prose(words: int) -> str:
    """Return the same words in the same pseudo-random order, on every version of Python."""
    state, vocabulary = 1, WORDS.split()
    chosen = []
    for _ in range(words):
        state = (state * 1103515245 + 12345) % 2**31
        chosen.append(vocabulary[(state >> 16) % len(vocabulary)])
    return " ".join(chosen)


def make_tokens(folder: Path) -> Path:
    """Tokenize 60 fixed documents by character."""
    text = prose(6000)
    rows = [{"id": f"d{i}", "text": text[i * 500 : (i + 1) * 500]} for i in range(60)]
    write_jsonl(folder / "raw.jsonl", rows)
    split = ("--algorithm", "chars", "--val", 0.1, "--test", 0)
    done = run_gptctl("tokenize", "raw.jsonl", "-o", "tokens", *split, cwd=folder)
    assert done.code == 0, done.err
    return folder / "tokens"


def losses(folder: Path, event: str, field: str) -> list[float]:
    """Read one field of all events of a kind."""
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return [line[field] for line in lines if line["event"] == event]


def pretrain(tokens: Path, preset: str, out: str = "") -> list[float]:
    """Train for STEPS updates; return the loss of each and the loss on the val split."""
    changed = RUNS[preset]
    if not preset.startswith(("test-", "char-")):
        changed = (*(f"model.{name}={value}" for name, value in SHRINK.items()), *changed)
    settings = [part for change in changed for part in ("--set", change)]
    short = () if preset.startswith("test-") else SHORT
    done = run_gptctl(
        "pretrain", tokens, "-o", out or preset, "--preset", preset, *FLAGS, *short, *settings, cwd=tokens.parent
    )  # fmt: skip
    assert done.code == 0, done.err
    run = tokens.parent / (out or preset)
    return losses(run, "step", "loss") + losses(run, "eval", "val_loss")


def finetune(tokens: Path) -> list[float]:
    """Finetune a run of test-gpt2 on two labels; return the losses of training and of the val split."""
    pretrain(tokens, "test-gpt2", "base")
    folder = tokens.parent / "labelled"
    folder.mkdir()
    text = prose(4000).split()
    for split, first, count in (("train", 0, 64), ("val", 64, 16)):
        rows = [
            {
                "text": " ".join(text[i * 8 : i * 8 + 8]),
                "label": "model" if "model" in text[i * 8 : i * 8 + 8] else "none",
            }
            for i in range(first, first + count)
        ]
        write_jsonl(folder / f"{split}.jsonl", rows)
    settings = ("--epochs", 3, "--device", "cpu", "--set", "dropout=0")
    done = run_gptctl("finetune", "base", "labelled", "-o", "classifier", *settings, cwd=tokens.parent)
    assert done.code == 0, done.err
    run = tokens.parent / "classifier"
    return losses(run, "step", "loss") + losses(run, "eval", "val_loss")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tokens(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("preset", RUNS)
def test_pretraining_has_the_recorded_losses(tokens: Path, preset: str) -> None:
    """The loss of each step, and the final loss on val."""
    assert pretrain(tokens, preset) == pytest.approx(recorded()[preset], rel=TOLERANCE)


@pytest.mark.slow
def test_finetuning_has_the_recorded_losses(tokens: Path) -> None:
    """The loss of the last step, and the loss on val after each epoch."""
    assert finetune(tokens) == pytest.approx(recorded()["finetune"], rel=TOLERANCE)


def recorded() -> dict[str, list[float]]:
    """Read the golden losses."""
    return json.loads(GOLDEN.read_text())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        made = make_tokens(Path(name))
        measured = {preset: pretrain(made, preset) for preset in RUNS} | {"finetune": finetune(made)}
    lines = [f'"{name}": {json.dumps([round(loss, 7) for loss in row])}' for name, row in measured.items()]
    sys.stdout.write("{\n" + ",\n".join(lines) + "\n}\n")
