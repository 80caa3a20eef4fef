"""Tiny Shakespeare in nanoGPT's setting: characters, the last 10 % is val."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import SHARED_DATA, Ran

TEXT = SHARED_DATA / "tinyshakespeare.txt"
NANOGPT_VAL_LOSS = 1.8857  # its README's run for a CPU, 2,000 steps, over the whole val split
pytestmark = pytest.mark.skipif(not TEXT.exists(), reason="tinyshakespeare.txt is not on this machine")
TOKENIZE = (
    "tokenize",
    TEXT,
    "-o",
    "tokens",
    "--algorithm",
    "chars",
    "--val",
    "0.1",
    "--test",
    "0",
    "--set",
    "split.by=position",
)


def test_65_symbols_and_end_of_text_cut_at_nine_tenths(gptctl: Callable[..., Ran], tmp_path: Path) -> None:
    done = gptctl(*TOKENIZE, "--json")
    assert done.code == 0, done.err
    metrics = done.json["metrics"]
    assert metrics["vocab_size"] == 66
    text = TEXT.read_text(encoding="utf-8")
    cut = int(len(text) * 0.9)
    assert metrics["train"]["tokens"] == cut == 1_003_854
    assert metrics["val"]["tokens"] == len(text) - cut + 1  # and end-of-text
    row = json.loads(gptctl("inspect", "tokens", "--split", "val", "--format", "jsonl").out)
    assert row["text"] == text[cut:] + "<|endoftext|>"


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("preset", ["char-cpu", "char-modern"])
def test_the_loss_of_nanogpt_is_reached(gptctl: Callable[..., Ran], preset: str) -> None:
    assert gptctl(*TOKENIZE).code == 0
    done = gptctl("pretrain", "tokens", "-o", "run", "--preset", preset, "--json", timeout=1100)
    assert done.json["metrics"]["steps"] <= 2000
    assert done.json["metrics"]["val_loss"] <= NANOGPT_VAL_LOSS
