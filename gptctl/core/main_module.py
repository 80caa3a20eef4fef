"""Keep new processes from running the user's script again, and from importing files of the current folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAMES = ("__file__", "__spec__")  # by which multiprocessing finds the main module


@contextmanager
def without_main_module() -> Iterator[None]:
    """Hide what the main module is while processes are started.

    multiprocessing imports the main module in each process that it spawns. A script that calls gptctl without an
    `if __name__ == "__main__"` guard would start over in each worker. Workers need nothing from it.
    """
    main = sys.modules["__main__"].__dict__
    hidden = {name: main.pop(name) for name in NAMES if name in main}
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(hidden)


@contextmanager
def without_current_folder() -> Iterator[None]:
    """Keep the current folder off the import path of Python processes that are started meanwhile.

    multiprocessing starts them with `python -c`, which would import a `pyarrow.py` of the current folder. If this
    process imports from the current folder itself, so do they.
    """
    name, folder = "PYTHONSAFEPATH", str(Path.cwd())
    if name in os.environ or {"", folder} & set(sys.path):
        yield
        return
    os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name, None)
