"""What the operating system and object storage refuse, as one line with a hint and an exit code."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from gptctl.core import atomic
from gptctl.core.errors import MachineError, from_exception, from_os_error


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (errno.ENOSPC, 4, "disk full writing"),
        (errno.EROFS, 4, "read-only file system"),
        (errno.EACCES, 4, "permission denied"),
        (errno.ENOTDIR, 4, "it is a file, not a folder"),
        (errno.EMFILE, 4, "too many open files"),
        (errno.ENOENT, 2, "no such file or folder"),
        (errno.EIO, 4, os.strerror(errno.EIO)),
    ],
)
def test_numbers_of_the_system(number: int, code: int, words: str) -> None:
    told = from_os_error(OSError(number, os.strerror(number), "/no/such/place"))
    assert (told.exit_code, told.hint is not None) == (code, True)
    assert words in told.message
    assert number == errno.EMFILE or "/no/such/place" in told.message


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        ("AWS Error NO_SUCH_BUCKET during ListObjectsV2 operation: none", 2, "no such bucket"),
        ("AWS Error NO_SUCH_KEY during GetObject operation: none", 2, "no such file or folder"),
        ("AWS Error ACCESS_DENIED during PutObject operation: no", 4, "access denied"),
        ("AWS Error UNKNOWN (HTTP status 403) during HeadObject operation: no", 4, "access denied"),
        ("AWS Error SLOW_DOWN during PutObject operation: wait (Request ID: 7)", 4, "does not answer"),
        ("AWS Error ODD (HTTP status 418) during PutObject operation: a teapot", 4, "refused a request (ODD, 418"),
    ],
)
def test_answers_of_object_storage(said: str, code: int, words: str) -> None:
    told = from_os_error(OSError(f"When reading key 'a/b' in bucket 'c': {said}"))
    assert told.exit_code == code and words in told.message and told.hint
    assert "s3://c/a/b" in told.message and "Request ID" not in told.message


@pytest.mark.parametrize(
    "error",
    [
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("can't start new thread"),
        Exception("Unknown error: Failed to launch worker thread: Resource temporarily unavailable"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_lack_of_memory(error: Exception) -> None:
    """Also where it shows as a library that cannot be loaded, and as the cause of another error."""
    assert from_exception(error).exit_code == 4
    assert from_exception(error).message.startswith("out of memory")
    wrapped = OSError("Could not find/load shared object file 'libllvmlite.so'")
    wrapped.__context__ = error
    assert isinstance(error, MemoryError) or from_exception(wrapped).message.startswith("out of memory")


def test_logs_and_folders_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="it is a file, not a folder"):
        atomic.append_line(tmp_path / "file" / "log.txt", "x")
    with pytest.raises(MachineError), atomic.atomic_folder(tmp_path / "file" / "folder"):
        pass


def test_a_folder_that_failed_leaves_the_old_one(tmp_path: Path) -> None:
    """And one that succeeds takes its place; folders of killed writers are swept."""
    for text in ("old", "new"):
        with atomic.atomic_folder(tmp_path / "f") as folder:
            (folder / "a").write_text(text)
    with pytest.raises(ValueError), atomic.atomic_folder(tmp_path / "f") as folder:
        (folder / "a").write_text("never")
        raise ValueError
    assert (tmp_path / "f" / "a").read_text() == "new"
    (tmp_path / "g.tmp-1").mkdir()
    (tmp_path / "h.tmp-1").touch()
    atomic.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
