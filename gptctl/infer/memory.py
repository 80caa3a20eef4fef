"""Memory that a model's conversion needed and the model does not."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Return freed memory to the system, where its C library keeps it (glibc): 190 MB after GPT-2 became int8."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
