"""Control of Python's garbage collector while a model trains: reference counts free what a step allocates."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """Switch the collector off, and restore it at the end."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_on:
            gc.enable()


def freeze() -> None:
    """Collect once and exclude everything that is alive now (model, optimizer, imports, compiled code) for good."""
    gc.collect()
    gc.freeze()


def collect() -> None:
    """Collect what was allocated since `freeze`."""
    gc.collect()
