"""The scratch folder of a stage: for data that its passes hand to each other."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gptctl.core import atomic
from gptctl.core.config import StageConfig, flag
from gptctl.core.errors import MachineError, from_os_error


class ScratchOptions(StageConfig):
    """Where temporary files are written."""

    tmp: str | None = flag(
        None, "Folder for large temporary files with -o -; the default is $TMPDIR. Otherwise they are in OUT.",
        metavar="DIR", panel="Output", runtime=True,
    )  # fmt: skip

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        return super().without_effect() | ({} if getattr(self, "out", "") == "-" else {"tmp": "without -o -"})


@contextmanager
def scratch_folder(out: Path | None, tmp: str | None = None) -> Iterator[Path]:
    """Yield a folder for temporary files: below OUT/work/, or below `tmp` if the output is a pipe.

    Its files need not be flushed to disk, because its name holds the boot id of this machine: the folder of an earlier
    boot, in which a power cut may have damaged files, is removed. Raises MachineError (4), with a hint, if a pipe's
    temporary files do not fit.
    """
    if out is None:
        with temporary_folder(tmp or tempfile.gettempdir()) as temporary:
            yield temporary
        return
    scratch = out / "work" / f"scratch-{atomic.boot()}"
    for other in out.glob("work/scratch-*"):
        if other != scratch:
            shutil.rmtree(other)
    yield scratch


@contextmanager
def temporary_folder(parent: str) -> Iterator[Path]:
    """Yield a new folder in `parent`, which is removed at the end."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="gptctl-", dir=parent)
    except OSError as error:
        raise from_os_error(error, parent) from error
    with folder as name:
        try:
            yield Path(name)
        except MachineError as error:
            if name not in error.message or not error.message.startswith("disk full"):
                raise
            raise MachineError(error.message, "name a folder with more space with --tmp, or set TMPDIR") from error
