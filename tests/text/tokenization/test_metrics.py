"""Bits of used ids as text, as tasks pass them to the metrics."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gptctl.text.tokenization.metrics import pack_bits, unpack_bits


@given(st.lists(st.booleans(), max_size=40))
@settings(deadline=None)
def test_bits_come_back(bits: list[bool]) -> None:
    assert unpack_bits(pack_bits(np.array(bits, np.bool_)), len(bits)).tolist() == bits


def test_no_text_means_that_no_id_is_used() -> None:
    assert unpack_bits("", 3).tolist() == [False, False, False]
