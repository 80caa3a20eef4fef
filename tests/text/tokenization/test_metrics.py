"""Bits of used ids as text, as tasks pass them to the metrics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptctl.core.context import Context
from gptctl.text.tokenization.metrics import pack_bits, suggest_vocab_size, unpack_bits


@given(st.lists(st.booleans(), max_size=40))
@settings(deadline=None)
def test_bits_come_back(bits: list[bool]) -> None:
    assert unpack_bits(pack_bits(np.array(bits, np.bool_)), len(bits)).tolist() == bits


def test_no_text_means_that_no_id_is_used() -> None:
    assert unpack_bits("", 3).tolist() == [False, False, False]


@pytest.mark.parametrize(
    ("vocab_size", "text_bytes", "suggested"),
    [(8192, 9_000_000, "4096"), (8192, 20, "512"), (8192, 10**12, "65536"), (8192, 64 * 2**20, ""), (4096, 10**6, "")],
)
def test_suggested_vocab_size(vocab_size: int, text_bytes: int, suggested: str) -> None:
    """The root of the text's size, if the default is not it; nothing if the user chose a size."""
    lines: list[str] = []
    suggest_vocab_size(vocab_size, text_bytes, Context(info=lines.append))
    assert len(lines) == bool(suggested) and all(f"--vocab-size {suggested} " in line for line in lines)
