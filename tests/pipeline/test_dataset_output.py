"""What the data stages have in common: an output whose counts do not add up is never finished."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import documents, plain_environment, write_jsonl

LOSE_A_DOCUMENT = """
import sys
from gptctl.core.summary import Counts
add = Counts.add
def lossy(self, other):
    add(self, other)
    self.kept -= 1
Counts.add = lossy
from gptctl.cli.main import main
main()
"""


@pytest.mark.parametrize(
    "optimized", [(), pytest.param(("-O",), marks=pytest.mark.slow)], ids=["plain", "without asserts"]
)
@pytest.mark.parametrize("out", ["out", "-"])
def test_counts_that_do_not_add_up_are_an_error(tmp_path: Path, out: str, optimized: tuple[str, ...]) -> None:
    """Exit 1, no manifest and no end of the stream, also where Python leaves asserts out."""
    write_jsonl(tmp_path / "raw.jsonl", documents(20))
    command = [sys.executable, *optimized, "-c", LOSE_A_DOCUMENT, "clean", "raw.jsonl", "-o", out]
    environment = plain_environment() | {"GPTCTL_EXECUTOR": "serial"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == 1, done.stderr
    assert b"internal error: 20 documents in, but 19 kept, 0 dropped and 0 quarantined" in done.stderr
    assert b"Traceback" not in done.stderr
    if out == "-":
        taken = subprocess.run(
            [sys.executable, "-m", "gptctl", "dedup", "-", "-o", "unique"], cwd=tmp_path, env=environment,
            input=done.stdout, capture_output=True,
        )  # fmt: skip
        assert taken.returncode == 3, taken.stderr
    else:
        assert not (tmp_path / "out" / "manifest.json").exists()
        assert json.loads((tmp_path / "out" / "run.json").read_bytes())["status"] == "failed"
