"""What every fault test asks: the exit code, two lines that say what and what to do, and what is left on disk."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gptctl.io.dataset import manifest
from tests.conftest import CACHE, Ran, plain_environment

# No processes but the command's own: what is counted, killed or stopped is this one.
ALONE = ("--executor", "serial")
STAGES = {
    "clean": ("clean",), "dedup": ("dedup",), "split": ("split",), "tokenize": ("tokenize", "--vocab-size", "300")
}  # fmt: skip


def expect(done: Ran, code: int, *words: str) -> None:
    """Fail unless a command ended with `code` and two lines that hold `words`, and nothing on standard output."""
    assert done.code == code, done.err
    assert done.out == b""
    assert len(done.error_lines) == 2, done.err
    for word in words:
        assert word in done.err


def assert_unfinished(out: Path) -> None:
    """Fail if there is a manifest: the output was cut off before its end."""
    assert not (out / "manifest.json").exists()


def assert_honest(out: Path) -> None:
    """Fail if an output that was cut off could be taken for a whole one: a manifest is there once all it lists is."""
    if (out / "manifest.json").exists():
        found = manifest.read(out)
        for shard in found.shards:
            manifest.read_shard(out, shard)
        assert found.counts.balanced()


def assert_whole(out: Path) -> None:
    """Fail unless all that a manifest lists is there, rows add up, and no half-written file is left."""
    assert (out / "manifest.json").exists()
    assert_honest(out)
    assert not list(out.rglob("*.tmp-*"))
    assert not (out / "work").exists()


def flip(path: Path, share: float = 0.5) -> None:
    """Change one bit of a file, that far in."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * share)] ^= 1
    path.write_bytes(data)


def start(*args: object, cwd: Path) -> subprocess.Popen[bytes]:
    """Start gptctl as a process that can be given signals."""
    return subprocess.Popen(
        [sys.executable, "-m", "gptctl", *map(str, args)], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=plain_environment() | {"GPTCTL_CACHE": str(CACHE)}, start_new_session=True,
    )  # fmt: skip


def wait_for(process: subprocess.Popen[bytes], there: Any) -> None:
    """Wait until `there()` is true of what a process does; fail if it ends before."""
    while not there():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def stop_with(process: subprocess.Popen[bytes], *numbers: int) -> tuple[int, str]:
    """Send a running process signals that reach it together; give its exit code and what it said."""
    os.kill(process.pid, signal.SIGSTOP)  # it sees all of them at once when it goes on
    for number in numbers:
        os.kill(process.pid, number)
    os.kill(process.pid, signal.SIGCONT)
    _, err = process.communicate(timeout=60)
    return process.returncode, err.decode()


def fill(folder: Path, leave: int) -> None:
    """Fill the file system of a folder but for `leave` bytes."""
    free = shutil.disk_usage(folder).free
    (folder / "ballast").write_bytes(b"x" * max(0, free - leave))


def grow(folder: Path) -> None:
    """Take the ballast away, and give a tmpfs 60 MiB."""
    (folder / "ballast").unlink(missing_ok=True)
    subprocess.run(["mount", "-o", "remount,size=60m", folder], check=True)
