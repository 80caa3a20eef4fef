"""Damage to a file that was whole: bits flipped, bytes overwritten by likely sizes, pieces cut, put in and doubled."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

# What sizes and offsets in binary formats break at, as 1, 4 and 8 bytes.
NUMBERS = [
    (number % 256**width).to_bytes(width, "little")
    for width in (1, 4, 8)
    for number in (0, 1, -1, -8, 2 ** (8 * width - 1), 2 ** (8 * width - 1) - 1, 2**16 % 256**width)
]
PIECES = [
    b"\xff",
    b"\x00",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b'"',
    b"\n",
    b"\r\n",
    b"{",
    b"[" * 300,
    b"null",
    b"1e999",
    b"-",
]


@st.composite
def mutated(draw: st.DrawFn, whole: bytes, most: int = 4) -> bytes:
    """Return `whole` after one to `most` changes."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, most))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(1, 64))
        kind = draw(st.sampled_from(("flip", "number", "cut", "end", "piece", "double", "bytes")))
        if kind == "flip" and data:
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "number":
            number = draw(st.sampled_from(NUMBERS))
            data[place : place + len(number)] = number
        elif kind == "cut":
            del data[place : place + length]
        elif kind == "end":
            del data[place:]
        elif kind == "piece":
            data[place:place] = draw(st.sampled_from(PIECES))
        elif kind == "double":
            data[place:place] = data[place : place + length] * draw(st.integers(1, 3))
        else:
            data[place : place + length] = draw(st.binary(max_size=8))
    return bytes(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@st.composite
def changed(draw: st.DrawFn, whole: Any, most: int = 3) -> Any:
    """Return a JSON value in which one to `most` places hold something else, or are gone."""
    copy = json.loads(json.dumps(whole))
    for _ in range(draw(st.integers(1, most))):
        here = copy
        while isinstance(here, dict | list) and here:
            keys = list(here) if isinstance(here, dict) else list(range(len(here)))
            key = draw(st.sampled_from(keys))
            inner = here[key]
            if isinstance(inner, dict | list) and inner and draw(st.booleans()):
                here = inner
            elif draw(st.integers(0, 4)) == 0:
                del here[key]
                break
            else:
                here[key] = draw(json_values)
                break
    return copy
