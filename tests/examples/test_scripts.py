"""The shell scripts in examples/, whole: what the README shows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPO, SHARED_DATA

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


def run_script(tmp_path: Path, shell: str, *command: str) -> str:
    """Run an example with `gptctl` and `python` of this environment first in PATH."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "gptctl").write_text(f'#!/bin/sh\nexec {sys.executable} -m gptctl "$@"\n')
    (tools / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPO),
        "OUT": str(tmp_path / "out"),
    }
    done = subprocess.run([shell, *command], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_quickstart(tmp_path: Path) -> None:
    out = run_script(tmp_path, "sh", str(REPO / "examples" / "quickstart.sh"))
    for word in (
        "collected",
        "clean",
        "dedup",
        "tokenize",
        "pretrain",
        "val loss",
        "eval, test",
        "f1",
        "sample:",
        "written:",
    ):
        assert word in out
    f1 = next(line for line in out.splitlines() if line.startswith("eval, test") and " f1 " in line)
    assert float(f1.split(" f1 ")[1].split()[0]) > 0.8  # word pairs and logistic regression: 0.74; characters: 0.83


@pytest.mark.skipif(not (SHARED_DATA / "trec").exists(), reason="the TREC questions are not on this machine")
def test_trec(tmp_path: Path) -> None:
    out = run_script(tmp_path, "bash", str(REPO / "examples" / "trec.sh"), str(SHARED_DATA / "trec"))
    last = out.strip().splitlines()[-1]
    assert last.startswith("accuracy ")
    assert float(last.split()[1]) > 0.83
