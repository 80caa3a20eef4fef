"""Train, validation and test by hash: where an item goes depends on its key alone, so adding data never moves it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.core.errors import UsageError
from gptctl.core.seeds import unit_hash

NAMES = ("train", "val", "test")


def assign(keys: Sequence[bytes] | pa.Array, val: float, test: float, salt: str) -> NDArray[np.uint8]:
    """Give each item's split as an index into NAMES. Items with equal keys go together.

    `keys` are bytes, or an Arrow array of strings, binaries or integers (hashed as 8 bytes, little end first), no
    nulls.
    """
    if val < 0 or test < 0 or val + test > 1:
        raise UsageError(
            f"splits of val={val} and test={test} do not leave a share for train", "their sum must be at most 1"
        )
    places = np.fromiter((unit_hash(salt, item) for item in _bytes(keys)), np.float64, len(keys))
    return np.where(places < test, 2, np.where(places < val + test, 1, 0)).astype(np.uint8)


def _bytes(keys: Sequence[bytes] | pa.Array) -> Iterable[bytes]:
    if not isinstance(keys, pa.Array):
        return keys
    if pa.types.is_integer(keys.type):
        return (number.to_bytes(8, "little", signed=True) for number in keys.to_pylist())
    kind = (
        pa.large_binary() if pa.types.is_large_string(keys.type) or pa.types.is_large_binary(keys.type) else pa.binary()
    )
    items: list[bytes] = keys.cast(kind).to_pylist()
    return items
