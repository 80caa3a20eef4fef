"""Standard streams that are closed, full, or without a reader: the exit code says what became of the result."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CACHE, documents, plain_environment, write_jsonl
from tests.faults.harness import assert_whole

FULL = "standard output cannot be written: No space left on device"
CLOSED = "standard output cannot be written: it is closed"
NO_MESSAGES = ("2>/dev/full", "2> >(exec <&-)")
NO_OUTPUT = {">/dev/full": FULL, ">&-": CLOSED}


def shell(command: str, folder: Path) -> tuple[int, str]:
    """Run `gptctl COMMAND`, with its redirections, in bash; give the exit code and what is on standard error."""
    line = f"{sys.executable} -m gptctl {command}"
    environment = plain_environment() | {"GPTCTL_CACHE": str(CACHE), "GPTCTL_EXECUTOR": "serial"}
    done = subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, env=environment, timeout=120)
    err = done.stderr.decode()
    assert "Traceback" not in err and "internal error" not in err, err
    return done.returncode, err


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A small input."""
    return write_jsonl(tmp_path / "raw.jsonl", documents(20))


def test_standard_input_that_is_closed(tmp_path: Path) -> None:
    code, err = shell("clean - -o clean <&-", tmp_path)
    assert code == 2
    assert "error: standard input is closed\nhint: pipe" in err


def test_messages_that_cannot_be_written(raw: Path, tmp_path: Path) -> None:
    """They are lost, and the output is whole. Nothing opens a file in the place of a closed stream."""
    assert shell("clean raw.jsonl -o clean <&- >&- 2>&-", tmp_path)[0] == 0
    assert_whole(tmp_path / "clean")


def test_json_that_cannot_be_written(raw: Path, tmp_path: Path) -> None:
    """The error says that the output is whole. If standard output is closed, no work is done."""
    code, err = shell("clean raw.jsonl -o clean --json >/dev/full", tmp_path)
    assert code == 4
    assert f"error: {FULL}\nhint: clean is complete: the same command shows the result again\n" in err
    assert_whole(tmp_path / "clean")


@pytest.mark.parametrize("redirection", NO_MESSAGES)
@pytest.mark.slow
def test_messages_on_standard_error_that_are_lost(redirection: str, raw: Path, tmp_path: Path) -> None:
    """What was asked for is elsewhere, in a folder or on standard output, but for the plan of a pipe."""
    assert shell(f"clean raw.jsonl -o clean {redirection}", tmp_path)[0] == 0
    assert_whole(tmp_path / "clean")
    for command in ("clean raw.jsonl --explain d1", "clean raw.jsonl -o c --dry-run", "doctor clean", "inspect clean"):
        assert shell(f"{command} {redirection}", tmp_path)[0] == 0, command
    lost = 141 if ">(" in redirection else 4
    assert shell(f"clean raw.jsonl -o - --dry-run {redirection}", tmp_path)[0] == lost
    assert shell(f"doctor clean -q {redirection}", tmp_path)[0] == 0
    assert shell(f"doctor clean --json {redirection}", tmp_path)[0] == 0
    (tmp_path / "clean" / "shards" / "part-00000.arrow").write_bytes(b"damaged")
    assert shell(f"doctor clean {redirection}", tmp_path)[0] == 3


@pytest.mark.parametrize("redirection", NO_OUTPUT)
@pytest.mark.slow
def test_a_result_on_standard_output_that_is_lost(redirection: str, raw: Path, workspace: Path, tmp_path: Path) -> None:
    for command in (
        "--help",
        "--version",
        "clean --help",
        "clean raw.jsonl --print-config",
        "clean raw.jsonl -o -",
        f"inspect {workspace / 'tokens'} --json",
        f"inspect {workspace / 'tokens'}",
        f"doctor {workspace / 'tokens'}",
        f"generate {workspace / 'run'} The --max-tokens 2",
    ):
        code, err = shell(f"{command} {redirection}", tmp_path)
        assert code == 4, (command, err)
        assert f"error: {NO_OUTPUT[redirection]}\nhint: redirect it" in err
    code, _ = shell(f"clean raw.jsonl -o clean --json {redirection}", tmp_path)
    assert code == 4
    assert (tmp_path / "clean" / "manifest.json").exists() == (redirection == ">/dev/full")
    assert shell(f"dedup {workspace / 'clean'} -o unique {redirection}", tmp_path)[0] == 0
    assert_whole(tmp_path / "unique")
