"""Arrow arrays from numpy arrays and buffers, and back, without copying.

pa.array, pa.scalar and to_numpy import pandas if it is installed, which takes 0.2 s. These functions do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def from_numpy(values: NDArray[Any]) -> pa.Array:
    """Return a numpy array of numbers as an Arrow array."""
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def to_numpy(values: pa.Array) -> NDArray[Any]:
    """Return an Arrow array of numbers as a numpy array."""
    dtype = np.dtype(values.type.to_pandas_dtype())
    return np.frombuffer(values.buffers()[1] or b"", dtype, values.offset + len(values))[values.offset :]


def mask(chosen: NDArray[np.bool_]) -> pa.BooleanArray:
    """Return a mask for Arrow's filter."""
    bits = np.packbits(chosen, bitorder="little")
    return pa.Array.from_buffers(pa.bool_(), len(chosen), [None, pa.py_buffer(bits)])


def strings(texts: Sequence[str]) -> pa.LargeStringArray:
    """Return a large_string column. Raises UnicodeEncodeError for half a surrogate pair."""
    encoded = [text.encode() for text in texts]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return pa.Array.from_buffers(
        pa.large_string(), len(texts), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    )


def lists(offsets: NDArray[np.int64], values: NDArray[Any]) -> pa.LargeListArray:
    """Return a column whose list i is values[offsets[i]:offsets[i + 1]]."""
    return pa.LargeListArray.from_arrays(from_numpy(offsets), from_numpy(values))


def string_buffers(texts: pa.LargeStringArray) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return the offsets and the bytes of a large_string column."""
    offsets = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return offsets, np.frombuffer(texts.buffers()[2] or b"", np.uint8)


def string_views(texts: pa.LargeStringArray) -> list[memoryview]:
    """Return the UTF-8 bytes of each text of a large_string column."""
    data = memoryview(texts.buffers()[2] or b"")
    return [data[start:stop] for start, stop in pairwise(string_buffers(texts)[0].tolist())]


def combine(column: pa.ChunkedArray) -> pa.Array:
    """Return the chunks of a column as one array."""
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.nulls(0, column.type)
