"""Where byte-level BPE may not merge: the rules that cut text into pieces first, by the names that GPT families go by.

    gpt2    r50k_base and p50k_base: English contractions in small letters; letters, digits, and other marks apart
    modern  after cl100k_base: contractions in any case, digits in groups of three, no line break inside a word's piece
    cl100k  cl100k_base exactly as tiktoken 0.14 cuts it: white space that ends a text is one piece
    o200k   o200k_base: as modern, and a word is cut where small letters are followed by capital ones

The rules are written for the Oniguruma engine of the tokenizers library, where `$` ends a line and `{1,3}+` repeats, so
they differ in spelling from tiktoken's. On every code point of Unicode, in ten contexts, gpt2, cl100k and o200k gave
the ids of tiktoken 0.14, and gpt2, modern and o200k those of gigatoken 0.10.
"""

from __future__ import annotations

from typing import Any, Literal

Name = Literal["gpt2", "modern", "o200k"]

ENDINGS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WORD_OR_MARKS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
BLANKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"

MODERN = f"{ENDINGS}|{WORD_OR_MARKS}|{BLANKS}"
CL100K = rf"{ENDINGS}|{WORD_OR_MARKS}|\s+\z|{BLANKS}"
O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{ENDINGS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{ENDINGS}?"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{BLANKS}"
)
PATTERNS = {"modern": MODERN, "cl100k": CL100K, "o200k": O200K}


def pre_tokenizer(name: str) -> dict[str, Any]:
    """Return the pre_tokenizer part of a tokenizer.json: cut by the named rules, then spell bytes as characters."""
    spell = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": name == "gpt2"}
    if name == "gpt2":  # the rules that ByteLevel has built in
        return spell
    cut = {"type": "Split", "pattern": {"Regex": PATTERNS[name]}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [cut, spell]}


def byte_level(model: dict[str, Any], rules: str, special: dict[str, int]) -> dict[str, Any]:
    """Return the whole definition of a byte-level BPE: what stands in a tokenizer.json.

    Special tokens stand in the vocabulary too: tokenizers would number those that do not one after the other. No piece
    that the rules cut can spell one.
    """
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": place, "content": name} | flags for name, place in special.items()],
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer(rules),
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
        } | model | {"vocab": model["vocab"] | special},
    }  # fmt: skip
