"""Split patterns: where byte-level BPE may not merge. Text is split by one of them first. Their names:

    gpt2    r50k_base and p50k_base: English contractions in lower case; letters, digits and other marks separately
    modern  after cl100k_base: contractions in any case, digits in groups of three, no line break inside a word's piece
    cl100k  cl100k_base exactly as in tiktoken 0.14: white space at the end of a text is one piece
    o200k   o200k_base: as modern, and words are split where lower case is followed by upper case

The patterns are written for the Oniguruma engine of the library tokenizers, in which `$` ends a line and `{1,3}+`
repeats, so they are spelled differently from tiktoken's. On every code point of Unicode, in ten contexts, gpt2, cl100k
and o200k gave the ids of tiktoken 0.14, and gpt2, modern and o200k those of gigatoken 0.10.
"""

from __future__ import annotations

from typing import Any, Literal

Name = Literal["gpt2", "modern", "o200k"]

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WORDS_AND_MARKS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
WHITE_SPACE = r"\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"

MODERN = f"{CONTRACTIONS}|{WORDS_AND_MARKS}|{WHITE_SPACE}"
CL100K = rf"{CONTRACTIONS}|{WORDS_AND_MARKS}|\s+\z|{WHITE_SPACE}"
O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTIONS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{CONTRACTIONS}?"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{WHITE_SPACE}"
)
PATTERNS = {"modern": MODERN, "cl100k": CL100K, "o200k": O200K}


def pre_tokenizer(name: str) -> dict[str, Any]:
    """Return the pre_tokenizer part of a tokenizer.json: split by a pattern, then spell bytes as characters."""
    spell = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": name == "gpt2"}
    if name == "gpt2":  # the pattern that is built into ByteLevel
        return spell
    cut = {"type": "Split", "pattern": {"Regex": PATTERNS[name]}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [cut, spell]}


def byte_level_definition(model: dict[str, Any], split_pattern: str, special: dict[str, int]) -> dict[str, Any]:
    """Return the whole definition of a byte-level BPE, which is the content of a tokenizer.json.

    Special tokens are in the vocabulary too, as tokenizers would number others consecutively. No piece of a text can
    spell one.
    """
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": place, "content": name} | flags for name, place in special.items()],
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer(split_pattern),
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
        } | model | {"vocab": model["vocab"] | special},
    }  # fmt: skip
