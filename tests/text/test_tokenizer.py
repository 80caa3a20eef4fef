"""Tokenizers read, encode and decode; what they cannot do is a clear error."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptctl.core.errors import DataError
from gptctl.text.tokenization.training import train
from gptctl.text.tokenizer import Tokenizer

CORPUS = ["The quick brown fox jumps over the lazy dog. " * 20, "Größe, naïve café\n\tindented = 日本語 🙂\n" * 5]
BPE = Tokenizer.from_json(train(CORPUS, "bpe", 300))
BYTES = Tokenizer.from_json(train([], "bytes", 0))


@pytest.mark.parametrize("tokenizer", [BPE, BYTES], ids=["bpe", "bytes"])
@given(
    text=st.text(max_size=60) | st.sampled_from(["<|endoftext|>", "a<|endoftext|>b", "\x00", "\r\n \u2028", "é" * 90])
)
@settings(max_examples=150, deadline=None)
def test_round_trip(tokenizer: Tokenizer, text: str) -> None:
    """Any text comes back, also one that spells the special token, which is never recognised."""
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.end_of_text_id not in ids


def replace(content: str, **pattern: str) -> dict[str, object]:
    return {"type": "Replace", "pattern": pattern, "content": content}


@pytest.mark.parametrize(
    "rules",
    [
        [replace("aa", String="a")] * 20,
        [replace("b" * 500, String="a")],
        [replace("b" * 60, Regex=""), replace("c" * 60, Regex="b*")],
        [{"type": "Sequence", "RULES": [replace("aaaa", Regex=".")] * 3}, replace("aa", String="a")],
    ],
)
@pytest.mark.parametrize(("part", "items"), [("normalizer", "normalizers"), ("decoder", "decoders")])
def test_rules_that_make_texts_much_longer_are_refused(rules: list[dict[str, object]], part: str, items: str) -> None:
    """Their memory and time would have no bound. The texts of `text_growth` are not made to find out."""
    text = json.dumps(BPE.definition | {part: {"type": "Sequence", items: rules}}).replace("RULES", items)
    with pytest.raises(DataError, match="can make a text"):
        Tokenizer.from_json(text)


def test_rules_of_open_models_are_accepted() -> None:
    """A blank becomes a mark of three bytes, blanks become one, line ends are written as text."""
    rules = [{"type": "Prepend", "prepend": "\u2581"}, replace("\u2581", String=" "), replace(" ", Regex=" {2,}"),
             replace("<0x0A>", String="\n"), *[replace("'", String=mark) for mark in "\u2018\u2019\u201a\u201b" * 9]]  # fmt: skip
    Tokenizer.from_json(json.dumps(BPE.definition | {"normalizer": {"type": "Sequence", "normalizers": rules}}))


@given(st.text("".join(CORPUS), max_size=40))
@settings(max_examples=50, deadline=None)
def test_characters_round_trip(text: str) -> None:
    """One id for each character."""
    tokenizer = Tokenizer.from_json(train(CORPUS, "chars", 0))
    ids = tokenizer.encode(text)
    assert len(ids) == len(text) and tokenizer.decode(ids) == text


def test_batches() -> None:
    """A batch gives one list for each text, in order, empty ones too, whatever the engine's batches."""
    texts = ["", "the fox", *["dog"] * 1500, "", "naïve"]
    result = BPE.encode_batch(texts)
    assert result.type == pa.large_list(pa.uint16())
    assert [BPE.decode(ids) for ids in result.to_pylist()] == texts
    assert BPE.encode_batch([]).to_pylist() == []


def test_special_tokens_on_decoding() -> None:
    """The end-of-text id shows unless it is asked not to."""
    ids = np.array([*BPE.encode("dog"), BPE.end_of_text_id], np.uint16)
    assert BPE.decode(ids) == "dog<|endoftext|>" and BPE.decode(ids, skip_special_tokens=True) == "dog"


def test_unseen_character_is_named() -> None:
    """A character vocabulary has no unknown token."""
    tokenizer = Tokenizer.from_json(train(["ab"], "chars", 0))
    with pytest.raises(DataError, match=r"'é' \(U\+00E9\)"):
        tokenizer.encode("abé")


def test_half_a_surrogate_pair() -> None:
    """What is not Unicode text is bad data, not a crash."""
    with pytest.raises(DataError):
        BPE.encode("\ud800")


def test_properties() -> None:
    """Sizes, types and the hash, which ignores formatting."""
    assert (BPE.vocab_size, BPE.end_of_text_id, BPE.dtype, BPE.lossless) == (300, 0, np.dtype(np.uint16), True)
    assert (BYTES.vocab_size, BYTES.lossless) == (257, True)
    compact = json.dumps(json.loads(BPE.to_json()))
    assert Tokenizer.from_json(compact).hash == BPE.hash != BYTES.hash
    words = Tokenizer.from_json(train(CORPUS, "words", 20))
    assert (words.vocab_size, words.lossless) == (20, False)


def test_large_vocabulary_needs_32_bits() -> None:
    """More than 65,536 tokens do not fit 16 bits."""
    definition = json.loads(train(["a"], "chars", 0))
    definition["model"]["vocab"]["b"] = 2**16
    tokenizer = Tokenizer.from_json(json.dumps(definition))
    assert tokenizer.dtype == np.uint32
    assert tokenizer.encode_batch(["ab"]).to_pylist() == [[1, 2**16]]


def test_other_end_of_text_names() -> None:
    """Usual names are found; a tokenizer without one is refused."""
    text = BPE.to_json()
    assert Tokenizer.from_json(text.replace("<|endoftext|>", "</s>")).end_of_text == "</s>"
    with pytest.raises(DataError, match="no end-of-text"):
        Tokenizer.from_json(text.replace("<|endoftext|>", "<other>"))


def test_imported_settings_are_ignored() -> None:
    """Truncation, padding and added begin tokens would change documents."""
    definition = json.loads(BPE.to_json())
    definition["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    tokenizer = Tokenizer.from_json(json.dumps(definition))
    assert tokenizer.decode(tokenizer.encode("the quick fox")) == "the quick fox"


def test_normaliser_is_not_lossless() -> None:
    """A tokenizer that rewrites text says so."""
    definition = json.loads(BPE.to_json()) | {"normalizer": {"type": "Lowercase"}}
    assert not Tokenizer.from_json(json.dumps(definition)).lossless


@pytest.mark.parametrize("text", ["", "{}", "[]", "not json", '{"model": {}}'])
def test_not_a_tokenizer(text: str) -> None:
    """Any other text is bad data."""
    with pytest.raises(DataError, match="not a tokenizer"):
        Tokenizer.from_json(text)
