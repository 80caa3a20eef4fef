"""Text that spells a special token stays text, whatever the tokenizer."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import AddedToken, models, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from gptctl.text.chat import MASK
from gptctl.text.special_tokens import SpecialTokens
from gptctl.text.tokenizer import Tokenizer

LETTERS = "▁abcdefghijklmnopqrstuvwxyz</>[]."
PIECES = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((letter, -3.0) for letter in LETTERS)]
WORDS = {"<unk>": 0, "</s>": 1, "a": 2, "b": 3}
SYMBOLS = {"<unk>": 0, "</s>": 1, "a": 2, "b": 3, "<": 4, "/": 5, "s": 6, ">": 7}
MODELS: dict[str, Any] = {
    "unigram": lambda: models.Unigram(PIECES, 2, False),
    "wordpiece": lambda: models.WordPiece(WORDS, unk_token="<unk>"),
    "wordlevel": lambda: models.WordLevel(WORDS, unk_token="<unk>"),
    "bpe": lambda: models.BPE(SYMBOLS, [], ignore_merges=True, unk_token="<unk>"),
    "merged": lambda: models.BPE(SYMBOLS | {"</": 8, "s>": 9}, [("<", "/"), ("s", ">"), ("</", "s>")], unk_token="<unk>"),
}  # fmt: skip


def make(kind: str) -> Tokenizer:
    backend = Backend(MODELS[kind]())
    is_unigram = kind == "unigram"
    backend.pre_tokenizer = pre_tokenizers.Metaspace() if is_unigram else pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens(["<unk>", "</s>"])
    backend.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    backend.add_special_tokens(["[TURN]"])  # only among the added tokens
    return Tokenizer.from_json(backend.to_str())


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("text", ["</s>", "a </s> b", "<unk>", "[TURN] a", "a [TURN]"])
def test_spelled_tokens_are_text(kind: str, text: str) -> None:
    if kind == "merged" and "</s>" in text:
        pytest.skip("the merges themselves make </s>")
    tokenizer = make(kind)
    ids = tokenizer.encode(text)
    assert tokenizer.token_to_id("</s>") not in ids
    assert tokenizer.token_to_id("[TURN]") not in ids
    assert ids[-1:] != []


@pytest.mark.parametrize("kind", MODELS)
def test_other_texts_have_the_ids_of_the_library(kind: str) -> None:
    tokenizer = make(kind)
    library = Backend.from_str(tokenizer.to_json())
    for text in ("a b", "abba", "a <think> b", "ab", ""):
        assert tokenizer.encode(text) == library.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("kind", MODELS)
def test_real_special_tokens_have_their_ids(kind: str) -> None:
    """A rendered text has some that are real, and some that a user spelled."""
    tokenizer = make(kind)
    library = Backend.from_str(tokenizer.to_json())
    rendered = "[TURN]a b</s>[TURN]<think>b"
    assert tokenizer.encode_marked(rendered, MASK) == library.encode(rendered, add_special_tokens=False).ids
    spelled = tokenizer.encode_marked("[TURN]" + tokenizer.mask_special("</s>", MASK), MASK)
    assert spelled[0] == tokenizer.token_to_id("[TURN]")
    if kind != "merged":
        assert tokenizer.token_to_id("</s>") not in spelled


def test_what_precedes_a_text_is_what_the_post_processor_adds() -> None:
    backend = Backend(MODELS["wordlevel"]())
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens(["</s>", "<unk>", "<s>"])
    token = ("<s>", backend.token_to_id("<s>"))
    for template, wanted in (("<s> $A", [4]), ("$A <s>", []), ("<s> <s> $A", [4, 4]), ("$A", [])):
        backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=[token])
        tokenizer = Tokenizer.from_json(backend.to_str(), SpecialTokens("<s>", "</s>"))
        assert tokenizer.with_prefix([2]) == [*wanted, 2]
        assert tokenizer.with_prefix([2], add_bos=True) == [4, 2]
        assert tokenizer.with_prefix([2], add_bos=False) == [2]
        assert tokenizer.with_prefix([]) == (wanted or [4])
    own = Tokenizer.from_json(backend.to_str())
    assert (own.with_prefix([2]), own.chat_prefix_ids) == ([1, 2], (1,))
