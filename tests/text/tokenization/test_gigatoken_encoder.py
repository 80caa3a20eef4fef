"""gigatoken returns the ids of tokenizers, or is not used."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptctl.core.errors import UsageError
from gptctl.text.tokenization import gigatoken_encoder
from gptctl.text.tokenization.gigatoken_encoder import (
    EDGE_CASES,
    GigatokenEncoder,
    choose_encoder,
    edge_cases,
    ends_in_blank,
)
from gptctl.text.tokenization.split_patterns import CL100K, MODERN
from gptctl.text.tokenization.training import train
from gptctl.text.tokenizer import Tokenizer
from tests.conftest import documents

TEXTS = [row["text"] for row in documents(60, words=200)]
TOKENIZERS = {
    name: Tokenizer.from_json(train([*TEXTS, *EDGE_CASES * 3], "bpe", 1500, split_pattern=name))
    for name in ("gpt2", "modern", "o200k")
} | {"bytes": Tokenizer.from_json(train([], "bytes", 0))}
TOKENIZERS["cl100k"] = Tokenizer.from_json(
    TOKENIZERS["modern"].to_json().replace(json.dumps(MODERN), json.dumps(CL100K))
)  # fmt: skip
ENTOKENIZERS = {name: GigatokenEncoder(tokenizer) for name, tokenizer in TOKENIZERS.items()}
ANY_TEXT = st.text(max_size=80) | st.text("a B'sS1\n\r\t \u00a0\u3000.é日\u0301🙂<|endoftext|>", max_size=80)


def column(texts: list[str]) -> pa.Array:
    return pa.array(texts, pa.large_string())


@pytest.mark.parametrize("name", TOKENIZERS)
@given(texts=st.lists(ANY_TEXT, max_size=6))
@settings(max_examples=150, deadline=None)
def test_same_ids_as_tokenizers(name: str, texts: list[str]) -> None:
    assert ENTOKENIZERS[name].encode(column(texts)).equals(TOKENIZERS[name].encode_batch(texts))


@pytest.mark.parametrize("name", TOKENIZERS)
def test_real_and_edge_case_text_and_any_number_of_threads(name: str) -> None:
    texts = [*TEXTS, *edge_cases(TOKENIZERS[name])]
    expected = TOKENIZERS[name].encode_batch(texts)
    for threads in (1, 4):
        assert GigatokenEncoder(TOKENIZERS[name], threads).encode(column(texts)).equals(expected)
    encoder, reason = choose_encoder("auto", TOKENIZERS[name], TEXTS)
    assert encoder is not None
    assert reason.startswith("same ids as tokenizers")


def test_a_slice_of_a_column() -> None:
    whole = column(TEXTS)
    assert ENTOKENIZERS["gpt2"].encode(whole.slice(7, 9)).equals(TOKENIZERS["gpt2"].encode_batch(TEXTS[7:16]))


def test_added_tokens_that_are_not_special_are_found_in_text() -> None:
    """As tokenizers does; special ones stay text."""
    definition = json.loads(TOKENIZERS["gpt2"].to_json())
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    definition["added_tokens"] += [
        {"id": 1500, "content": "<tool>", "special": False} | flags,
        {"id": 1501, "content": "<|im_start|>", "special": True} | flags,
    ]
    tokenizer = Tokenizer.from_json(json.dumps(definition))
    encoder, _ = choose_encoder("auto", tokenizer, TEXTS)
    assert encoder is not None
    ids = encoder.encode(column(["a<tool>b<|im_start|>"]))[0].as_py()
    assert 1500 in ids
    assert 1501 not in ids


def test_an_instance_is_replaced_when_it_has_seen_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gigatoken_encoder, "MAX_ENCODED_BYTES", 1000)
    encoder = GigatokenEncoder(TOKENIZERS["gpt2"])
    first = encoder._backend
    assert encoder.encode(column(TEXTS)).equals(TOKENIZERS["gpt2"].encode_batch(TEXTS))
    assert encoder.encode(column(TEXTS)).equals(TOKENIZERS["gpt2"].encode_batch(TEXTS))
    assert encoder._backend is not first


@pytest.mark.parametrize("algorithm", ["words", "chars"])
def test_what_is_no_bpe_is_left_to_tokenizers(algorithm: Any) -> None:
    tokenizer = Tokenizer.from_json(train(TEXTS, algorithm, 500))
    assert choose_encoder("auto", tokenizer, TEXTS) == (None, "the tokenizer is not a BPE")
    with pytest.raises(UsageError, match="not a BPE"):
        choose_encoder("gigatoken", tokenizer, TEXTS)


def test_unknown_rules_are_left_to_tokenizers() -> None:
    text = TOKENIZERS["modern"].to_json().replace(json.dumps(MODERN), json.dumps(r"\p{L}+|[^\p{L}]"))
    encoder, reason = choose_encoder("auto", Tokenizer.from_json(text), TEXTS)
    assert encoder is None
    assert "cannot load" in reason
    assert choose_encoder("tokenizers", TOKENIZERS["gpt2"], TEXTS) == (None, "encoder=tokenizers")


def test_one_id_that_differs_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    encode = GigatokenEncoder.encode

    def wrong(self: GigatokenEncoder, texts: pa.Array) -> pa.Array:
        tokens = encode(self, texts)
        values = tokens.values.to_numpy().copy()
        values[-1] ^= np.uint16(1)
        return pa.LargeListArray.from_arrays(tokens.offsets, pa.array(values))

    monkeypatch.setattr(GigatokenEncoder, "encode", wrong)
    encoder, reason = choose_encoder("auto", TOKENIZERS["gpt2"], TEXTS)
    assert encoder is None
    assert reason.startswith(f"ids differ for the text {TEXTS[-1][:10]!r}"[:-1])
    with pytest.raises(UsageError, match="ids differ"):
        choose_encoder("gigatoken", TOKENIZERS["gpt2"], TEXTS)


def test_which_texts_end_in_a_blank() -> None:
    texts = ["", "a", "a ", "a\n", "a\r", "\n \t", "a\u3000", "a\u00a0", "\n\v"]
    assert ends_in_blank(column(texts)).tolist() == [False, False, True, False, False, True, True, True, True]
