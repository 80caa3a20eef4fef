"""Making a tokenizer.json of the files that other programs keep a tokenizer in; the ids stay the same.

- tokenizer.json of Hugging Face's tokenizers, taken as it is;
- vocab.json and merges.txt, or encoder.json and vocab.bpe, as GPT-2 and its kin are published;
- a *.tiktoken file: a token in base64 and its rank on each line. Neither the rules for cutting text nor the special
  tokens stand in it; for the names that OpenAI publishes they are known, other names need `split_pattern`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from gptctl.core.errors import DataError, UsageError
from gptctl.text.tokenization.split_patterns import byte_level
from gptctl.text.tokenizer import END_OF_TEXT, END_OF_TEXT_NAMES

PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
RANKS = ".tiktoken"
FORMATS = "tokenizer.json; vocab.json and merges.txt; encoder.json and vocab.bpe; one *.tiktoken"
# Rules and special tokens of the published rank files, as tiktoken 0.14 defines them.
PUBLISHED: dict[str, tuple[str, dict[str, int]]] = {
    "r50k_base": ("gpt2", {END_OF_TEXT: 50256}),
    "p50k_base": ("gpt2", {END_OF_TEXT: 50256}),
    "cl100k_base": (
        "cl100k",
        {
            END_OF_TEXT: 100257,
            "<|fim_prefix|>": 100258,
            "<|fim_middle|>": 100259,
            "<|fim_suffix|>": 100260,
            "<|endofprompt|>": 100276,
        },
    ),
    "o200k_base": ("o200k", {END_OF_TEXT: 199999, "<|endofprompt|>": 200018}),
}


def find(present: Sequence[str]) -> tuple[str, ...]:
    """Choose the files that make a tokenizer among those of a folder; none where there is no tokenizer."""
    for names in (("tokenizer.json",), *PAIRS):
        if set(names) <= set(present):
            return names
    ranks = sorted(name for name in present if name.endswith(RANKS))
    return tuple(ranks) if len(ranks) == 1 else ()


def partners(name: str) -> tuple[str, ...]:
    """Return the files that make a tokenizer with the one that is named, itself included."""
    return next((pair for pair in PAIRS if name in pair), (name,))


def to_json(files: Mapping[str, bytes], split_pattern: str | None = None) -> str:
    """Return the text of a tokenizer.json from the contents of a tokenizer's files, by name.

    `split_pattern` names the rules for cutting text where the files do not say them.
    Raises DataError (3) where a file is damaged, UsageError (2) where the rules are needed and not given.
    """
    for vocabulary, merges in PAIRS:
        if vocabulary in files and merges in files:
            found = from_vocabulary(read_json(vocabulary, files[vocabulary]), decode(merges, files[merges]))
            return json.dumps(byte_level(found[0], split_pattern or "gpt2", found[1]), ensure_ascii=False)
    name, data = next(iter(files.items()))
    if not name.endswith(RANKS):
        return decode(name, data)
    stem = name.removesuffix(RANKS)
    ranks = read_ranks(name, data)
    if split_pattern:
        rules, special = split_pattern, PUBLISHED.get(stem, ("", {END_OF_TEXT: max(ranks.values()) + 1}))[1]
    elif stem in PUBLISHED:
        rules, special = PUBLISHED[stem]
    else:
        raise UsageError(
            f"{name} does not say how text is cut before merging",
            f"name it: --split-pattern gpt2, modern or o200k (known by file name: {', '.join(PUBLISHED)})",
        )
    return json.dumps(byte_level(from_ranks(ranks), rules, special), ensure_ascii=False)


def from_vocabulary(vocabulary: dict[str, int], merges: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the BPE model and the special tokens of GPT-2's two files."""
    pairs = [line.rstrip("\r").split(" ") for line in merges.split("\n") if line.strip()]
    if pairs and pairs[0][0].startswith("#version"):
        del pairs[0]
    for number, pair in enumerate(pairs, 1):
        if len(pair) != 2 or not {*pair, "".join(pair)} <= vocabulary.keys():
            raise DataError(
                f"merge {number} does not fit the vocabulary: {' '.join(pair)[:80]!r}",
                "take both files from the same tokenizer",
            )
    special = {name: vocabulary[name] for name in END_OF_TEXT_NAMES if name in vocabulary}
    return {"vocab": vocabulary, "merges": pairs}, special


def from_ranks(ranks: dict[bytes, int]) -> dict[str, Any]:
    """Return the BPE model of a rank file.

    tiktoken joins the neighbours whose joined bytes have the lowest rank; tokenizers wants to be told both halves. The
    halves of a token are those that tiktoken's own procedure on its bytes ends with: inside a longer text the same
    bytes are joined in the same order as long as nothing is joined across their ends, and once something is, the token
    is never made. A whole piece that has a rank is taken at once (`ignore_merges`), as tiktoken does.
    """
    spelling = {byte: symbol for symbol, byte in byte_symbols().items()}
    names = {token: "".join(spelling[byte] for byte in token) for token in ranks}
    ordered = sorted(ranks, key=ranks.__getitem__)
    halves = [last_join(token, ranks) for token in ordered if len(token) > 1]
    return {
        "vocab": {names[token]: ranks[token] for token in ordered},
        "merges": [[names[pair[0]], names[pair[1]]] for pair in halves if pair],
        "ignore_merges": True,
    }


def last_join(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes] | None:
    """Join a token's bytes, lowest rank first, the leftmost of equals, and give the two that are left before the end.

    None where the bytes do not join to the token.
    """
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        joined = [ranks.get(left + right, -1) for left, right in pairwise(parts)]
        known = [rank for rank in joined if rank >= 0]
        if not known:
            return None
        first = joined.index(min(known))
        parts[first : first + 2] = [parts[first] + parts[first + 1]]
    return parts[0], parts[1]


def read_ranks(name: str, data: bytes) -> dict[bytes, int]:
    """Read the lines of a rank file. Raises DataError (3) where it is damaged or lacks a byte."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise DataError(
                f"{name} line {number} is not a token in base64 and a rank", "get the file again"
            ) from error
    lacking = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if lacking or len(set(ranks.values())) != len(ranks) or min(ranks.values()) < 0 or b"" in ranks:
        what = f"it lacks byte {lacking[0]}" if lacking else "two tokens share a rank, or one is empty"
        raise DataError(f"{name} holds no byte-level vocabulary: {what}", "get the file again")
    return ranks


def byte_symbols() -> dict[str, int]:
    """Return the byte that each of the 256 symbols of byte-level BPE stands for (Radford et al. 2019, GPT-2).

    Bytes that print in Latin-1 stand for themselves; the other 68 are the characters from U+0100 on.
    """
    printing = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printing]
    return {chr(byte): byte for byte in printing} | {chr(256 + place): byte for place, byte in enumerate(others)}


def read_json(name: str, data: bytes) -> dict[str, int]:
    """Read a vocabulary: names and ids. Raises DataError (3) if it is anything else."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is not JSON: {str(error)[:120]}", "get the file again") from error
    if not (isinstance(found, dict) and found and all(type(number) is int for number in found.values())):
        raise DataError(f"{name} does not map tokens to ids", "get the file again")
    return found


def decode(name: str, data: bytes) -> str:
    """Read UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not a tokenizer.json: not UTF-8", "give a file of a tokenizer") from error
