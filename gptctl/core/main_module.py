"""Keep new processes from running the user's script again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

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
