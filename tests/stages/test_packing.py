"""`pretrain --set pack=...` through the real command line."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gptctl.io.dataset import tokens as token_io
from tests.conftest import Ran, tree_bytes

Gptctl = Callable[..., Ran]
PRESET = ("--preset", "test-modern")
BESTFIT = (*PRESET, "--set", "pack=bestfit")


def test_figures_are_printed_recorded_and_planned(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    tokens = workspace / "tokens"
    done = gptctl("pretrain", tokens, "-o", "run", *BESTFIT, "--steps", "6", "--json")
    assert done.code == 0, done.err
    figures = done.json["metrics"]["packing"]
    lengths = token_io.document_lengths(tokens, "train")
    assert (figures["pack"], figures["documents"], figures["tokens"]) == ("bestfit", len(lengths), lengths.sum())
    assert figures["truncated"] == (lengths > figures["seq_len"]).sum()
    assert (figures["utilisation"], figures["unused_tokens"]) == (1.0, 0)
    places = figures["sequences"] * figures["seq_len"]
    assert figures["padding"] == pytest.approx(1 - figures["tokens"] / places)
    assert f"packing bestfit: {figures['sequences']:,} sequences" in done.err
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    assert [event["truncated"] for event in events if event["event"] == "packing"] == [figures["truncated"]]
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_bytes())
    assert manifest["metrics"]["packing"] == figures
    assert gptctl("pretrain", tokens, *BESTFIT, "--dry-run", "--json").json["plan"]["packing"] == figures

    stream = gptctl("pretrain", tokens, *PRESET, "--dry-run", "--json").json["plan"]["packing"]
    assert (stream["pack"], stream["truncated"]) == ("concat", None)
    assert (stream["documents"], stream["tokens"]) == (figures["documents"], figures["tokens"])
    assert stream["utilisation"] < 1
    assert "packing" not in gptctl("pretrain", *PRESET, "--dry-run", "--json").json["plan"]


def test_another_packing_is_a_conflict(gptctl: Gptctl, workspace: Path) -> None:
    assert gptctl("pretrain", workspace / "tokens", "-o", "run", *PRESET, "--steps", "2").code == 0
    done = gptctl("pretrain", workspace / "tokens", "-o", "run", "--steps", "2", *BESTFIT)
    assert (done.code, "pack (was 'concat', now 'bestfit')" in done.err) == (5, True)
    assert gptctl("pretrain", workspace / "tokens", "-o", "other", "--set", "pack=best").code == 2


@pytest.mark.slow
def test_val_loss_does_not_depend_on_the_packing(gptctl: Gptctl, workspace: Path) -> None:
    """Val is one stream for both: the same untrained weights score the same."""
    losses = [
        gptctl(
            "pretrain", workspace / "tokens", "-o", pack, *PRESET, "--steps", "0", "--set", f"pack={pack}", "--json"
        ).json["metrics"]["val_loss"]
        for pack in ("concat", "bestfit")
    ]
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_killed_and_resumed_ends_with_the_same_weights(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    command = ("pretrain", workspace / "tokens", *BESTFIT, "--steps", "24", "--set", "checkpoint.every=6", "-o")
    assert gptctl(*command, "whole").code == 0
    assert gptctl(*command, "killed", fault="kill:43").code == -signal.SIGKILL
    assert gptctl(*command, "killed").code == 0
    assert '"resumed"' in (tmp_path / "killed" / "events.jsonl").read_text()
    assert (
        tree_bytes(tmp_path / "killed", "model")["model/model.safetensors"]
        == (tree_bytes(tmp_path / "whole", "model")["model/model.safetensors"])
    )


@pytest.mark.slow
def test_one_and_two_processes_read_the_same_tokens(gptctl: Gptctl, workspace: Path) -> None:
    command = ("pretrain", workspace / "tokens", *BESTFIT, "--steps", "6", "--device", "cpu", "--json")
    one = gptctl(*command, "-o", "one")
    two = gptctl(*command, "-o", "two", "--nproc-per-node", "2")
    assert (one.code, two.code) == (0, 0), two.err
    for name in ("tokens", "packing"):
        assert one.json["metrics"][name] == two.json["metrics"][name]
    assert two.json["metrics"]["val_loss"] == pytest.approx(one.json["metrics"]["val_loss"], abs=1e-3)


def test_a_bound_on_tokens_counts_no_padding(gptctl: Gptctl, workspace: Path) -> None:
    """With sequences longer than two documents, a tenth and more of the places stay empty."""
    done = gptctl(
        "pretrain", workspace / "tokens", "-o", "run", *BESTFIT, "--seq-len", "256", "--set", "training.batch_size=4",
        "--train-tokens", "8k", "--json",
    )  # fmt: skip
    metrics = done.json["metrics"]
    assert metrics["packing"]["padding"] > 0.02
    assert metrics["tokens"] == pytest.approx(8000, abs=4 * 256)
    assert metrics["tokens"] < metrics["steps"] * 4 * 256 * (1 - metrics["packing"]["padding"] / 2)


def test_document_lengths_end_at_end_of_text(workspace: Path) -> None:
    folder = workspace / "tokens"
    tokens = token_io.open_tokens(str(folder))
    stream = np.concatenate([part[:] for part in token_io.flat_parts(folder, "train")])
    lengths = token_io.document_lengths(folder, "train")
    assert len(lengths) == tokens.manifest.metrics["train"]["documents"]
    assert (len(stream), lengths.dtype) == (tokens.count("train"), np.int64)
    assert set(stream[np.cumsum(lengths) - 1].tolist()) == {0}  # the end-of-text of our own tokenizers
    assert (stream == 0).sum() == len(lengths)
