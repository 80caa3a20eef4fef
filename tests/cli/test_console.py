"""Progress of data commands: bars with a total, plain lines with a pace, and something to see from the start."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gptctl.cli import console as plain
from gptctl.cli.console import amount, pace
from gptctl.io.input.blocks import ReadOptions
from gptctl.io.input.inputs import Inputs
from tests.cli.test_training_view import on_a_terminal
from tests.conftest import documents, write_jsonl


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (amount(1, None, "shards"), "1 shard"),
        (amount(7, 64, "shards"), "7 of 64 shards"),
        (amount(1, 1, "shards hashed"), "1 of 1 shard hashed"),
        (amount(2, None, "training shards"), "2 training shards"),
        (pace(12.34, "steps"), "12.3 steps/s"),
        (pace(0.04, "steps"), "25 s per step"),
    ],
)
def test_words(said: str, expected: str) -> None:
    assert said == expected


def test_no_pace_before_there_is_one(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("gptctl.cli.console.time.monotonic", lambda: clock[0])
    voice = plain.Console()
    clock[0] += 40
    voice.progress(10, 400, "steps")
    clock[0] += 40
    voice.progress(11, 400, "steps")
    assert capsys.readouterr().err.splitlines() == [
        "10 of 400 steps",
        "11 of 400 steps, 40 s per step, 4 h 19 min left",
    ]


def test_expected_tasks(tmp_path: Path, workspace: Path) -> None:
    """The estimate by sizes is exact for datasets, and near the truth for files."""
    raw = write_jsonl(tmp_path / "raw.jsonl", documents(4000, words=400))
    for path in (raw, workspace / "clean", workspace / "pages"):
        inputs = Inputs((str(path),), ReadOptions())
        expected, found = inputs.expected_tasks(), sum(1 for _ in inputs.tasks())
        assert expected is not None and abs(expected - found) <= max(1, found // 10), path
    assert Inputs((str(raw),), ReadOptions()).expected_tasks(limit=5) is None
    assert Inputs(("-",), ReadOptions()).expected_tasks() is None


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "darwin", reason="a terminal of macOS loses what is drawn last")
def test_a_bar_on_a_terminal(tmp_path: Path) -> None:
    """The first thing on the screen is that the command starts; the bar has a total and a percentage; then all is gone."""
    write_jsonl(tmp_path / "raw.jsonl", documents(4000, words=100))
    command = ("clean", "raw.jsonl", "-o", "clean", "--filters", "length", "--executor", "serial")
    code, seen = on_a_terminal(*command, cwd=tmp_path, NO_COLOR="1")
    assert code == 0, seen
    assert seen.startswith("gptctl clean: starting\r\x1b[K")
    assert " of 3 shards" in seen and "100%" in seen and "1 shards" not in seen
    assert on_a_terminal(*command, "-q", cwd=tmp_path) == (0, "")
    code, seen = on_a_terminal("clean", "absent.jsonl", "-o", "out", cwd=tmp_path)
    assert (code, seen.startswith("gptctl clean: starting\r\x1b[Kerror: no such file")) == (2, True), seen
