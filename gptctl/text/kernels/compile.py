"""How kernels are compiled: for fixed types, when their file is imported, and kept on disk for the next process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

from gptctl.core.imports import hidden

types: Any = numba.types  # numba's own annotations do not name these
njit: Any = numba.njit

# What a kernel reads, which may be an Arrow buffer that nobody may write to, and what it fills.
BYTES, LENGTHS, OFFSETS = (types.Array(kind, 1, "C", readonly=True) for kind in (types.uint8, types.int32, types.int64))
NEW_BYTES, NEW_LENGTHS, COUNTS = (types.Array(kind, 1, "C") for kind in (types.uint8, types.int32, types.int64))
FIGURES_OF_ONE = types.Array(types.float64, 1, "C", readonly=True)
COUNT_ROWS, FIGURE_ROWS = types.Array(types.int64, 2, "C"), types.Array(types.float64, 2, "C")
NUMBER = types.int64


def compiled(*arguments: Any, inline: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function of the given arguments that gives nothing, or for what its callers need if none are given.

    Where no folder for compiled code can be written, it is compiled anew in each process.
    """
    signature = types.void(*arguments) if arguments else None

    def wrap(function: Callable[..., Any]) -> Any:
        options = {"nogil": True, "inline": "always" if inline else "never"}
        # Starting up, numba looks for scipy's BLAS and for extensions: 0.3 s, where its own start takes as much.
        with hidden("scipy", "awkward"):
            try:
                return njit(signature, cache=bool(arguments), **options)(function)
            except RuntimeError:
                return njit(signature, **options)(function)

    return wrap
