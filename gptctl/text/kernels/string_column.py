"""Arrow string columns from the bytes that a kernel has written, and copying bytes in kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gptctl.text.kernels.compile import compiled


def string_column(
    original: pa.LargeStringArray, offsets: NDArray[np.int64], data: NDArray[np.uint8]
) -> pa.LargeStringArray:
    """Return a column whose document i is data[offsets[i]:offsets[i + 1]], and null where `original` is null."""
    size = int(offsets[-1])
    column = pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data[:size]))
    if not original.null_count:
        return column
    return pc.if_else(original.is_valid(), column, pa.scalar(None, pa.large_string()))


@compiled(inline=True)
def copy(data: Any, low: Any, high: Any, out: Any, at: Any) -> Any:
    """Copy a range of bytes to `out`, from `at` on, and return where it ends there."""
    for i in range(low, high):
        out[at + i - low] = data[i]
    return at + high - low
