"""The picture of a run: rendered to a console of a given width, and once through a real terminal."""

from __future__ import annotations

import fcntl
import io
import math
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gptctl.cli import console as plain
from gptctl.cli.training_view import BARS, MAX_LOSSES, TrainingView, bins, sparkline
from tests.conftest import REPO

FIGURES: dict[str, Any] = {
    "steps": 2000,
    "unit": "tokens",
    "lr": 2e-3,
    "grad_norm": 0.41,
    "tokens_per_second": 45_123.2,
    "mfu": 0.233,
    "memory_bytes": 612_000_000,
    "seconds_left": 132.0,
    "val_loss": 1.81,
    "best_loss": 1.79,
    "checkpoint": 250,
    "sample": "To be [b]or[/b] not\n to be " * 12,
    "sample_step": 250,
}


def drawn(view: TrainingView, width: int = 80, **options: Any) -> list[str]:
    """Render on a terminal of a width; give its lines."""
    sink = io.StringIO()
    Console(file=sink, width=width, force_terminal=True, color_system=None, **options).print(view)
    return re.sub(r"\x1b\[[0-9;]*m", "", sink.getvalue()).splitlines()


def filled(steps: int = 300) -> TrainingView:
    """Return a view after some steps of a falling loss."""
    view = TrainingView()
    for step in range(1, steps + 1):
        view.update(FIGURES | {"step": step, "loss": 1.5 + 2 * math.exp(-step / 80)})
    return view


@pytest.mark.parametrize("width", [40, 80, 132])
def test_it_fills_the_terminal_and_no_more(width: int) -> None:
    """Every line is as wide as the terminal, whatever it shows."""
    lines = drawn(filled(), width)
    assert {len(line) for line in lines} == {width}
    assert len(lines) <= 9


def test_all_figures_are_told_at_80_columns() -> None:
    """How far, how good, how fast, how large, and what the model wrote, whose brackets are no markup."""
    text = "\n".join(drawn(filled()))
    for part in (
        "step 300 of 2,000 (15%), 2 min 12 s left", "loss 1.5470", "val 1.8100", "best 1.7900", "45,123 tokens/s", "MFU 23%",
        "612.0 MB", "lr 2.0e-03", "gradient 0.41", "saved 250", "after step 250: To be [b]or[/b] not to be",
    ):  # fmt: skip
        assert part in text, part
    curve = re.search(f"[{BARS}]+", text)
    assert curve is not None
    assert len(curve[0]) > 30
    assert curve[0][0] == BARS[-1]
    assert curve[0][-1] == BARS[0]


def test_letters_do_where_the_terminal_has_no_more() -> None:
    """A terminal that is not UTF-8 gets ASCII alone."""
    sink = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Console(file=sink, width=80, force_terminal=True, color_system=None).print(filled())
    sink.flush()
    sink.seek(0)
    assert "loss 1.5470" in sink.read()


def test_colours_unless_they_are_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The curve is cyan; with NO_COLOR nothing has a colour."""
    for wanted in (True, False):
        if not wanted:
            monkeypatch.setenv("NO_COLOR", "1")
        sink = io.StringIO()
        Console(file=sink, width=80, force_terminal=True, color_system="standard").print(filled())
        assert bool(re.search(r"\x1b\[[0-9;]*(3[0-7]|9[0-7])m", sink.getvalue())) == wanted


def test_little_is_known_at_first() -> None:
    """Before the first line of the log, and while it evaluates."""
    view = TrainingView()
    view.update({"steps": 10, "unit": "texts", "phase": "evaluating"})
    lines = drawn(view)
    assert {len(line) for line in lines} == {80}
    assert any("evaluating" in line for line in lines)


def test_a_long_run_keeps_a_short_curve() -> None:
    """Memory does not grow with the steps, the first loss stays on the left."""
    view = filled(5 * MAX_LOSSES)
    assert len(view.losses) <= MAX_LOSSES
    assert view.losses[0] == max(view.losses)


@given(st.lists(st.floats(-5, 50, allow_subnormal=False), min_size=1, max_size=300), st.integers(1, 60))
def test_curves(values: list[float], width: int) -> None:
    """As wide as asked at most, its least and greatest marks where the values are."""
    line = sparkline(values, width)
    assert len(line) == min(width, len(values))
    shown = bins(values, width) if len(values) > width else values
    if max(shown) > min(shown):
        assert line[shown.index(max(shown))] == BARS[-1]
        assert line[shown.index(min(shown))] == BARS[0]


def test_plain_lines_elsewhere(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal: no picture, a line each 30 s; the pace is this process's, not that of the steps before."""
    clock = [1000.0]
    monkeypatch.setattr("gptctl.cli.console.time.monotonic", lambda: clock[0])
    voice = plain.Console()
    for step in range(900, 1000):
        voice.show_metrics(FIGURES | {"step": step, "loss": 2.0})
        voice.progress(step, 1100, "steps", "loss 2.0000, 45,123 tokens/s")
        clock[0] += 1.0
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "930 of 1,100 steps, 1.0 steps/s, 2 min 50 s left; loss 2.0000, 45,123 tokens/s",
        "960 of 1,100 steps, 1.0 steps/s, 2 min 20 s left; loss 2.0000, 45,123 tokens/s",
        "990 of 1,100 steps, 1.0 steps/s, 1 min 50 s left; loss 2.0000, 45,123 tokens/s",
    ]


def on_a_terminal(*args: str, cwd: Path, **environment: str) -> tuple[int, str]:
    """Run gptctl with standard error on a terminal of 24 lines and 80 columns; give its code and all it drew."""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name not in ("CI", "COLUMNS", "NO_COLOR")}
    child = subprocess.Popen(
        [sys.executable, "-m", "gptctl", *args], cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=end,
        env=inherited | {"PYTHONPATH": str(REPO), "TERM": "xterm", "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1"}
        | environment,
    )  # fmt: skip
    os.close(end)
    drawn = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # the child is gone
            break
        if not piece:
            break
        drawn += piece
    os.close(terminal)
    return child.wait(), drawn.decode()


@pytest.mark.slow
def test_on_a_terminal(workspace: Path, tmp_path: Path) -> None:
    """Pictures that replace one another, no line too wide, no colour where none is wanted, the result at the end."""
    command = [
        "pretrain",
        str(workspace / "tokens"),
        "--preset",
        "test-modern",
        "--steps",
        "40",
        "--set",
        "eval_every=20",
    ]
    code, seen = on_a_terminal(*command, "-o", "run", cwd=tmp_path, NO_COLOR="1")
    assert code == 0, seen
    assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|9[0-7]|38)[0-9;]*m", seen)
    for part in ("training", "step 40 of 40", "tokens/s", "MFU", "after step 20:", "evaluating"):
        assert part in seen, part
    words = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)
    assert max(len(line) for line in re.split(r"[\r\n]+", words) if "\u2502" in line) <= 80
    assert "\x1b[1A" in seen
    assert words.rstrip().splitlines()[-1].startswith("next: gptctl generate run")
    code, seen = on_a_terminal(*command, "-o", "dumb", cwd=tmp_path, TERM="dumb")
    assert (code, "\x1b" in seen, "next: " in seen) == (0, False, True)
    code, seen = on_a_terminal(*command, "-o", "quiet", "-q", cwd=tmp_path)
    assert (code, seen) == (0, "")
