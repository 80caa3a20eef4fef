"""Tokenizers of other programs keep their ids: tiktoken and tokenizers are the judges."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from itertools import pairwise

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Engine
from tokenizers import decoders, models, pre_tokenizers

from gptctl.core.errors import DataError, UsageError
from gptctl.text.tokenization import convert
from gptctl.text.tokenization.gigatoken_encoder import EDGE_CASES, SCRIPTS
from gptctl.text.tokenization.training import train
from gptctl.text.tokenizer import Tokenizer
from tests.conftest import documents

# The rules of the published rank files, as tiktoken spells them.
R50K = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
CL100K = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
O200K = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+",
])  # fmt: skip
TEXTS = [row["text"] for row in documents(40, words=200)] + list(EDGE_CASES * 2) + list(SCRIPTS * 2)
ANY_TEXT = st.text(max_size=80) | st.text("ab B'sS1\n\r\t \u00a0.!/é日\u0301🙂<|endoftext|>", max_size=80)


def trained(split_pattern: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(train(TEXTS, "bpe", 1200, split_pattern=split_pattern))  # type: ignore[arg-type]
    return found


def ranks_of(split_pattern: str) -> dict[bytes, int]:
    """A trained vocabulary as ranks: bytes first, then the merges in order."""
    symbols = convert.unicode_to_bytes()
    model = trained(split_pattern)["model"]
    tokens = [bytes([byte]) for byte in range(256)]
    tokens += [bytes(symbols[c] for c in left + right) for left, right in model["merges"]]  # type: ignore[index]
    return {token: rank for rank, token in enumerate(dict.fromkeys(tokens))}


def rank_file(ranks: dict[bytes, int]) -> bytes:
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items())


MODERN_RANKS, GPT2_RANKS, O200K_RANKS = ranks_of("modern"), ranks_of("gpt2"), ranks_of("o200k")
# Ranks that no training gives: halves of higher rank than the whole, several ways to a token, tokens out of reach.
ODD_RANKS = {bytes([byte]): byte for byte in range(256)} | {
    token: 256 + rank
    for rank, token in enumerate([b"abb", b"ab", b"bb", b"aab", b"aa", b"ba", b"bab", b"abab", b"  ", b" a", b"a \n", b"sSs"])
}  # fmt: skip
CASES = {
    "r50k_base": (GPT2_RANKS, R50K, None),
    "p50k_base": ({token: rank + (rank >= 900) for token, rank in GPT2_RANKS.items()}, R50K, None),
    "cl100k_base": (MODERN_RANKS, CL100K, None),
    "o200k_base": (O200K_RANKS, O200K, None),
    "odd": (ODD_RANKS, R50K, "gpt2"),
}


@pytest.mark.parametrize("name", CASES)
def test_rank_files_give_the_ids_of_tiktoken(name: str) -> None:
    ranks, pattern, rules = CASES[name]
    tokenizer = Tokenizer.from_json(convert.to_tokenizer_json({f"{name}.tiktoken": rank_file(ranks)}, rules))
    special = convert.PUBLISHED_RANKS.get(name, ("", {"<|endoftext|>": len(ranks)}))[1]
    judge = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)

    @given(ANY_TEXT)
    @settings(max_examples=400, deadline=None)
    def check(text: str) -> None:
        assert tokenizer.encode(text) == judge.encode_ordinary(text)

    check()
    for text in TEXTS:
        assert tokenizer.encode(text) == judge.encode_ordinary(text)
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.end_of_text_id == judge.eot_token
    assert tokenizer.lossless


def gpt2_files(vocabulary: str = "vocab.json", merges: str = "merges.txt") -> dict[str, bytes]:
    """A trained tokenizer as GPT-2's two files."""
    found = trained("gpt2")
    model = found["model"]
    lines = "".join(f"{left} {right}\n" for left, right in model["merges"])  # type: ignore[index]
    names = json.dumps(model["vocab"])  # type: ignore[index]
    return {vocabulary: names.encode(), merges: f"#version: 0.2\n{lines}".encode()}


@pytest.mark.parametrize("names", convert.FILE_PAIRS)
def test_vocabulary_and_merges_give_the_ids_of_tokenizers(names: tuple[str, str]) -> None:
    files = gpt2_files(*names)
    tokenizer = Tokenizer.from_json(convert.to_tokenizer_json(files))
    vocabulary = json.loads(files[names[0]])
    merges = [tuple(line.split(" ")) for line in files[names[1]].decode().split("\n")[1:-1]]
    judge = Engine(models.BPE(vocabulary, merges))
    judge.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    judge.decoder = decoders.ByteLevel()

    @given(ANY_TEXT)
    @settings(max_examples=300, deadline=None)
    def check(text: str) -> None:
        assert tokenizer.encode(text) == judge.encode(text).ids

    check()
    for text in TEXTS:
        assert tokenizer.encode(text) == judge.encode(text).ids
    assert tokenizer.end_of_text_id == vocabulary["<|endoftext|>"]


def test_tokenizer_json_is_taken_as_it_is() -> None:
    text = json.dumps(trained("modern"))
    assert convert.to_tokenizer_json({"tokenizer.json": text.encode()}) == text


def test_what_is_found_in_a_folder() -> None:
    assert convert.find_files(["vocab.json", "merges.txt", "tokenizer.json"]) == ("tokenizer.json",)
    assert convert.find_files(["vocab.json", "merges.txt", "x"]) == ("vocab.json", "merges.txt")
    assert convert.find_files(["a.tiktoken", "x"]) == ("a.tiktoken",)
    assert convert.find_files(["a.tiktoken", "b.tiktoken", "vocab.json"]) == ()
    assert convert.companion_files("vocab.bpe") == ("encoder.json", "vocab.bpe")
    assert convert.companion_files("mine.json") == ("mine.json",)


def test_a_rank_file_of_unknown_name_needs_its_rules() -> None:
    files = {"mine.tiktoken": rank_file(GPT2_RANKS)}
    with pytest.raises(UsageError, match="does not contain a split pattern"):
        convert.to_tokenizer_json(files)
    tokenizer = Tokenizer.from_json(convert.to_tokenizer_json(files, "gpt2"))
    assert tokenizer.end_of_text_id == len(GPT2_RANKS)


def damaged(change: Callable[[bytes], bytes]) -> bytes:
    return change(rank_file(GPT2_RANKS))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"r50k_base.tiktoken": damaged(lambda data: data[:-9] + b"?? 7\n")}, "line"),
        ({"r50k_base.tiktoken": damaged(lambda data: data.split(b"\n", 1)[1])}, "lacks byte 0"),
        ({"r50k_base.tiktoken": damaged(lambda data: data + b"enp6eg== 5\n")}, "share a rank"),
        ({"r50k_base.tiktoken": b""}, "lacks byte"),
        ({"vocab.json": b"[1]", "merges.txt": b""}, "does not map"),
        ({"vocab.json": b"{", "merges.txt": b""}, "not JSON"),
        (
            {"vocab.json": b'{"a": 1, "b": 2}', "merges.txt": b"#version: 0.2\na b\n"},
            "merge 1 is not in the vocabulary",
        ),
        ({"vocab.json": b'{"a": 1, "b": 2}', "merges.txt": b"\xff"}, "not UTF-8"),
    ],
)
def test_damaged_files_are_named(files: dict[str, bytes], message: str) -> None:
    with pytest.raises(DataError, match=message):
        convert.to_tokenizer_json(files)


def test_every_token_is_joined_from_two_that_come_before() -> None:
    for token, rank in MODERN_RANKS.items():
        if len(token) > 1:
            halves = convert.last_merge(token, MODERN_RANKS)
            assert halves is not None
            assert max(MODERN_RANKS[half] for half in halves) < rank
    assert convert.last_merge(b"sSs", ODD_RANKS) is None
    assert all(one < other for one, other in pairwise(sorted(MODERN_RANKS.values())))
