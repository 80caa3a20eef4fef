"""What the shell is offered after a tab, asked as bash asks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPO


def offered(line: str, folder: Path) -> list[str]:
    """Return the completions of the last word of a command line."""
    words = line.split(" ")
    environment = {
        "_GPTCTL_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1),
        "PYTHONPATH": str(REPO),
    }  # fmt: skip
    start = "import sys; sys.argv[0] = 'gptctl'; from gptctl.cli.main import app; app(prog_name='gptctl')"
    done = subprocess.run(
        [sys.executable, "-c", start], env=os.environ | environment, cwd=folder, capture_output=True, text=True
    )
    assert not done.stderr, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("gptctl cl", ["clean"]),
        ("gptctl clean --preset ", ["basic", "none", "web"]),
        ("gptctl clean --filters length,gopher_q", ["length,gopher_quality"]),
        ("gptctl pretrain tokens --preset gpt3-s", ["gpt3-small"]),
        ("gptctl eval --metrics f1,acc", ["f1,accuracy"]),
        ("gptctl dedup --method mi", ["minhash"]),
        ("gptctl pretrain ", ["out/tokens"]),
        ("gptctl finetune out/", ["out/tokens"]),
        ("gptctl finetune elsewhere", []),
    ],
)
def test_completion(tmp_path: Path, line: str, wanted: list[str]) -> None:
    (tmp_path / "out/tokens").mkdir(parents=True)
    (tmp_path / "out/tokens/run.json").write_text("{}")
    assert sorted(offered(line, tmp_path)) == wanted
