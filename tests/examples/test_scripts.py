"""The shell scripts in examples/, whole: what the README shows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPO, SHARED_DATA, put_tools

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


def run_script(tmp_path: Path, shell: str, *command: str, **settings: str) -> str:
    """Run an example with `gptctl` and `python` of this environment first in PATH."""
    tools = put_tools(tmp_path, [sys.executable, "-m", "gptctl"])
    environment = {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPO),
        "OUT": str(tmp_path / "out"),
        **settings,
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


# Less of everything than the scripts do by themselves: two seeds, a minute of pretraining, fewer epochs.
LITTLE = {"GPTCTL_SEEDS": "2", "GPTCTL_MAX_MINUTES": "1"}


def accuracy_of(out: str) -> float:
    """Read the last line; what stands before it are the other figures."""
    *others, last = out.strip().splitlines()
    for word in ("baseline majority", "baseline nb", "95 % interval", "minutes", "macro f1"):
        assert any(line.startswith(word) for line in others), word
    assert last.startswith("accuracy ")
    return float(last.split()[1])


@pytest.mark.skipif(not (SHARED_DATA / "trec").exists(), reason="the TREC questions are not on this machine")
def test_trec(tmp_path: Path) -> None:
    script = str(REPO / "examples" / "trec.sh")
    assert accuracy_of(run_script(tmp_path, "bash", script, str(SHARED_DATA / "trec"), EPOCH_MB="1.5", **LITTLE)) > 0.83


@pytest.mark.skipif(
    not (SHARED_DATA / "movie_reviews.jsonl.gz").exists(), reason="the movie reviews are not on this machine"
)
def test_movie_reviews(tmp_path: Path) -> None:
    script, data = str(REPO / "examples" / "movie_reviews.sh"), str(SHARED_DATA / "movie_reviews.jsonl.gz")
    assert accuracy_of(run_script(tmp_path, "bash", script, data, EPOCH_MB="14", **LITTLE)) > 0.65
