"""A name that exists is a file that is whole."""

import subprocess
import sys
from pathlib import Path

import pytest

from gptctl.core import atomic
from gptctl.core.errors import MachineError
from tests import file_faults
from tests.conftest import REPO


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    atomic.write_json(path, {"old": True})
    with pytest.raises(RuntimeError), atomic.atomic_file(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_text() == '{\n "old": true\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with atomic.atomic_folder(tmp_path / "a") as folder:
        (folder / "x").write_text("1")
        assert not (tmp_path / "a").exists()
    with pytest.raises(RuntimeError), atomic.atomic_folder(tmp_path / "a") as folder:
        (folder / "x").write_text("2")
        raise RuntimeError
    assert (tmp_path / "a" / "x").read_text() == "1"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        atomic.write_json(tmp_path / "a", float("nan"))


def test_a_full_disk_is_told_with_the_place(tmp_path: Path) -> None:
    code = f"from gptctl.core import atomic; from pathlib import Path; atomic.write_text(Path({str(tmp_path / 'a')!r}), 'x')"
    for operation in (1, 2, 3):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            cwd=REPO,
            env=file_faults.environment(f"enospc:{operation}"),
        )
        assert "MachineError: disk full writing" in done.stderr
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("operation", [1, 2, 3])
def test_a_kill_leaves_the_old_file_and_sweep_removes_the_rest(tmp_path: Path, operation: int) -> None:
    atomic.write_text(tmp_path / "a", "old")
    code = f"from gptctl.core import atomic; from pathlib import Path; atomic.write_text(Path({str(tmp_path / 'a')!r}), 'new')"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, env=file_faults.environment(f"kill:{operation}"))
    assert done.returncode == -9
    assert (tmp_path / "a").read_text() == "old"
    atomic.sweep(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_a_place_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="it is a file"):
        atomic.write_text(tmp_path / "file" / "x", "")
