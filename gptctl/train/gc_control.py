"""Python's garbage collector, kept out of the way: reference counts free what a step makes."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """Switch the collector off, and leave it as it was found."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_on:
            gc.enable()


def freeze() -> None:
    """Collect once, then never look at what stands now again: model, optimizer, imports, compiled code."""
    gc.collect()
    gc.freeze()


def collect() -> None:
    """Collect what came since, where a pause does no harm (evaluations, checkpoints)."""
    gc.collect()
