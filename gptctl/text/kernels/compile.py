"""Compile kernels: for fixed types, when their module is imported, and cached on disk for the next process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gptctl.core.hidden_imports import hidden
from gptctl.text.kernels.cache import set_cache_folder

set_cache_folder()

import numba  # noqa: E402

types: Any = numba.types  # numba has no annotations for these
njit: Any = numba.njit

# The arrays that a kernel reads, which may be read-only Arrow buffers, and those that it fills.
BYTES, LENGTHS, OFFSETS = (types.Array(kind, 1, "C", readonly=True) for kind in (types.uint8, types.int32, types.int64))
NEW_BYTES, NEW_LENGTHS, COUNTS = (types.Array(kind, 1, "C") for kind in (types.uint8, types.int32, types.int64))
FIGURES_OF_ONE = types.Array(types.float64, 1, "C", readonly=True)
COUNT_ROWS, FIGURE_ROWS = types.Array(types.int64, 2, "C"), types.Array(types.float64, 2, "C")
NUMBER = types.int64


def compiled(*arguments: Any, inline: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function for these argument types; it returns nothing.

    Without types, the function is compiled for the types that its callers use. If no cache folder can be written, every
    process compiles the function again.
    """
    signature = types.void(*arguments) if arguments else None

    def wrap(function: Callable[..., Any]) -> Any:
        options = {"nogil": True, "inline": "always" if inline else "never"}
        # numba would look for scipy's BLAS and for extensions when it starts, which doubles its start-up time of 0.3 s.
        with hidden("scipy", "awkward"):
            try:
                return njit(signature, cache=bool(arguments), **options)(function)
            except RuntimeError:
                return njit(signature, **options)(function)

    return wrap
