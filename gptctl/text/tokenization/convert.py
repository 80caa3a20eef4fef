"""Converting the tokenizer files of other programs to a tokenizer.json. The ids stay the same.

- tokenizer.json of Hugging Face's tokenizers is used unchanged.
- vocab.json and merges.txt, or encoder.json and vocab.bpe, are the files of GPT-2 and similar models.
- A *.tiktoken file has a token in base64 and its rank on each line. It contains neither the split pattern nor the
  special tokens. For the names that OpenAI publishes they are known; other names need `split_pattern`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from gptctl.core.errors import DataError, UsageError
from gptctl.text.tokenization.split_patterns import byte_level_definition
from gptctl.text.tokenizer import END_OF_TEXT, END_OF_TEXT_NAMES

FILE_PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
TIKTOKEN_SUFFIX = ".tiktoken"
ADDED_FLAGS = ("special", "normalized", "lstrip", "rstrip", "single_word")
FORMATS = "tokenizer.json; vocab.json and merges.txt; encoder.json and vocab.bpe; one *.tiktoken"
# Split patterns and special tokens of the published rank files, as in tiktoken 0.14.
PUBLISHED_RANKS: dict[str, tuple[str, dict[str, int]]] = {
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


def find_files(present: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the files that make up the tokenizer of a folder, or none if there is no tokenizer."""
    for names in (("tokenizer.json",), *FILE_PAIRS):
        if set(names) <= set(present):
            return names
    ranks = sorted(name for name in present if name.endswith(TIKTOKEN_SUFFIX))
    return tuple(ranks) if len(ranks) == 1 else ()


def companion_files(name: str) -> tuple[str, ...]:
    """Return the names of the files that make up a tokenizer together with the named one, which is included."""
    return next((pair for pair in FILE_PAIRS if name in pair), (name,))


def to_tokenizer_json(files: Mapping[str, bytes], split_pattern: str | None = None) -> str:
    """Return the text of a tokenizer.json from the contents of a tokenizer's files, by name.

    `split_pattern` is used if the files do not contain one. Raises DataError (3) if a file is damaged, UsageError (2)
    if a split pattern is needed and not given.
    """
    for vocabulary, merges in FILE_PAIRS:
        if vocabulary in files and merges in files:
            model, special = bpe_from_merges(
                parse_vocabulary(vocabulary, files[vocabulary]), decode_utf8(merges, files[merges])
            )
            definition = byte_level_definition(model, split_pattern or "gpt2", special)
            return json.dumps(definition, ensure_ascii=False)
    name, data = next(iter(files.items()))
    if not name.endswith(TIKTOKEN_SUFFIX):
        return decode_utf8(name, data)
    stem = name.removesuffix(TIKTOKEN_SUFFIX)
    ranks = parse_ranks(name, data)
    if split_pattern:
        pattern, special = split_pattern, PUBLISHED_RANKS.get(stem, ("", {END_OF_TEXT: max(ranks.values()) + 1}))[1]
    elif stem in PUBLISHED_RANKS:
        pattern, special = PUBLISHED_RANKS[stem]
    else:
        raise UsageError(
            f"{name} does not contain a split pattern, by which text is split before merging",
            f"choose one: --split-pattern gpt2, modern or o200k (known by file name: {', '.join(PUBLISHED_RANKS)})",
        )
    return json.dumps(byte_level_definition(bpe_from_ranks(ranks), pattern, special), ensure_ascii=False)


def extend(tokenizer_json: str, added: Sequence[Mapping[str, Any]], begins: str | None = None) -> str:
    """Return a tokenizer.json with more tokens, and with the token `begins` before each text.

    `added` are tables as in added_tokens_decoder of a tokenizer_config.json. Those that the tokenizer has already are
    passed over; the others get the next ids, as in transformers. The text of an invalid file is returned unchanged.
    """
    from tokenizers import AddedToken, processors
    from tokenizers import Tokenizer as Backend

    try:
        known = {token["content"] for token in json.loads(tokenizer_json).get("added_tokens") or []}
        missing = {token["content"]: token for token in added if token["content"] not in known}
        if not (missing or begins):
            return tokenizer_json
        backend = Backend.from_str(tokenizer_json)
        for name, token in missing.items():
            flags = {flag: token[flag] for flag in ADDED_FLAGS if flag in token}
            backend.add_tokens([AddedToken(name, **flags)])
        if begins:
            start = (begins, backend.token_to_id(begins))
            backend.post_processor = processors.TemplateProcessing(single=f"{begins} $A", special_tokens=[start])
    except Exception:  # tokenizers raises plain Exception; whoever parses the text reports what is wrong
        return tokenizer_json
    text: str = backend.to_str()
    return text


def bpe_from_merges(vocabulary: dict[str, int], merges: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the BPE model and the special tokens of GPT-2's two files. Raises DataError (3) for an invalid merge."""
    pairs = [line.rstrip("\r").split(" ") for line in merges.split("\n") if line.strip()]
    if pairs and pairs[0][0].startswith("#version"):
        del pairs[0]
    for number, pair in enumerate(pairs, 1):
        if len(pair) != 2 or not {*pair, "".join(pair)} <= vocabulary.keys():
            raise DataError(
                f"merge {number} is not in the vocabulary: {' '.join(pair)[:80]!r}",
                "take both files from the same tokenizer",
            )
    special = {name: vocabulary[name] for name in END_OF_TEXT_NAMES if name in vocabulary}
    return {"vocab": vocabulary, "merges": pairs}, special


def bpe_from_ranks(ranks: dict[bytes, int]) -> dict[str, Any]:
    """Return the BPE model of a rank file.

    tiktoken merges the neighbours whose joined bytes have the lowest rank, while tokenizers needs both halves of each
    merge. The halves of a token are the last two parts in tiktoken's own procedure on its bytes. Inside a longer text,
    the same bytes are merged in the same order as long as nothing is merged across their ends; once something is, the
    token is never formed. A whole piece that has a rank becomes a token at once (`ignore_merges`), as in tiktoken.
    """
    spelling = {byte: symbol for symbol, byte in unicode_to_bytes().items()}
    names = {token: "".join(spelling[byte] for byte in token) for token in ranks}
    ordered = sorted(ranks, key=ranks.__getitem__)
    halves = [last_merge(token, ranks) for token in ordered if len(token) > 1]
    return {
        "vocab": {names[token]: ranks[token] for token in ordered},
        "merges": [[names[pair[0]], names[pair[1]]] for pair in halves if pair],
        "ignore_merges": True,
    }


def last_merge(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes] | None:
    """Merge the bytes of a token, lowest rank first, the leftmost of equals; return the last two parts.

    Return None if the bytes cannot be merged to the token.
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


def parse_ranks(name: str, data: bytes) -> dict[bytes, int]:
    """Return the rank of each token in a rank file. Raises DataError (3) if it is damaged or lacks a byte."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise DataError(
                f"{name} line {number} is not a token in base64 and a rank", "download the file again"
            ) from error
    lacking = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if lacking or len(set(ranks.values())) != len(ranks) or min(ranks.values()) < 0 or b"" in ranks:
        reason = f"it lacks byte {lacking[0]}" if lacking else "two tokens share a rank, or one is empty"
        raise DataError(f"{name} is not a byte-level vocabulary: {reason}", "download the file again")
    return ranks


def unicode_to_bytes() -> dict[str, int]:
    """Return the byte for each of the 256 symbols of byte-level BPE (Radford et al. 2019, GPT-2).

    Printable bytes of Latin-1 stand for themselves. The other 68 are the characters from U+0100 on.
    """
    printing = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printing]
    return {chr(byte): byte for byte in printing} | {chr(256 + place): byte for place, byte in enumerate(others)}


def parse_vocabulary(name: str, data: bytes) -> dict[str, int]:
    """Return a vocabulary, which maps tokens to ids. Raises DataError (3) if it is anything else."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is not JSON: {str(error)[:120]}", "download the file again") from error
    if not (isinstance(found, dict) and found and all(type(number) is int for number in found.values())):
        raise DataError(f"{name} does not map tokens to ids", "download the file again")
    return found


def decode_utf8(name: str, data: bytes) -> str:
    """Return text from UTF-8. Raises DataError (3) if it is not UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not a tokenizer.json: not UTF-8", "name a file of a tokenizer") from error
