"""The folders for files that can be made again: outputs of models, uploads in progress, compiled kernels."""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder for files that can be made again.

    It is $GPTCTL_CACHE, else gptctl in the user's cache folder, else gptctl-UID in the folder for temporary files.
    """
    if given := os.environ.get("GPTCTL_CACHE"):
        return Path(given).absolute()
    with suppress(RuntimeError):  # there is no home folder
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gptctl"
        if can_be_made(folder):
            return folder
    return own_temporary_folder()


def can_be_made(folder: Path) -> bool:
    """Return whether a folder exists or can be created, and can be written."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK)


def own_temporary_folder() -> Path:
    """Return a folder for temporary files that keeps its name and that nobody else can write.

    Compiled code is loaded from it, so one that another user has made is not used.
    """
    folder = Path(tempfile.gettempdir()) / f"gptctl-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
        return folder
    return Path(tempfile.mkdtemp(prefix="gptctl-"))


def set_matplotlib_folder() -> None:
    """Let matplotlib keep its font list in the cache folder if it cannot in the user's, instead of warning of it."""
    with suppress(RuntimeError):
        if can_be_made(Path.home() / ".config") or os.environ.get("MPLCONFIGDIR"):
            return
    os.environ["MPLCONFIGDIR"] = str(cache_folder() / "matplotlib")


def use_temporary_folder_in(out: str) -> None:
    """Keep temporary files in OUT until this process ends, if there is no other place for them.

    Its name is that of a temporary file of this process, which the output folder allows.
    """
    try:
        tempfile.gettempdir()
        return
    except FileNotFoundError:
        folder = Path(out).absolute() / f"temporary.tmp-{os.getpid()}"
    with suppress(OSError):
        folder.mkdir(parents=True)
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder)


def out_argument(args: Sequence[str]) -> str:
    """Return the folder that -o or --out names in a command line, or an empty string if it names none."""
    for number, word in enumerate(args):
        if word in ("-o", "--out") and number + 1 < len(args):
            return args[number + 1]
        if word.startswith("--out="):
            return word.removeprefix("--out=")
    return ""
