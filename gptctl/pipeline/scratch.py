"""The scratch folder of a stage: for data that its passes hand to each other."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gptctl.core import atomic


@contextmanager
def scratch_folder(out: Path | None) -> Iterator[Path]:
    """Yield a folder for temporary files: below OUT/work/, or a temporary one if the output is a pipe.

    Its files need not be flushed to disk, because its name holds the boot id of this machine: the folder of an earlier
    boot, in which a power cut may have damaged files, is removed.
    """
    if out is None:
        with tempfile.TemporaryDirectory(prefix="gptctl-") as temporary:
            yield Path(temporary)
        return
    scratch = out / "work" / f"scratch-{atomic.boot()}"
    for other in out.glob("work/scratch-*"):
        if other != scratch:
            shutil.rmtree(other)
    yield scratch
