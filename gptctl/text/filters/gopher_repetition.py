"""Drop documents that repeat themselves.

Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from Training Gopher", appendix A1.1, table
A1, decided as datatrove 0.10.1 does with words split by `\\w+|[^\\w\\s]+`. What that means exactly, since the paper
leaves it open:

- paragraphs are split at two or more line feeds in the stripped text, lines at one or more in the unstripped;
- every occurrence after the first is a duplicate; all shares are of the text's characters, white space included;
- the most frequent n-gram is joined by spaces, the first seen wins a tie, and a count of one counts too;
- duplicate n-grams are joined without spaces and found from left to right, jumping over each one found.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate

import pyarrow as pa

from gptctl.core.config import Settings, key
from gptctl.text.words import split_function

PARAGRAPH_BREAK = re.compile(r"\n{2,}")
LINE_BREAK = re.compile(r"\n+")


class Config(Settings):
    """Largest shares kept, each as in the paper's table A1."""

    max_duplicate_paragraph_share: float = key(
        0.30, "Largest share of paragraphs that repeat an earlier one.", ge=0, le=1
    )
    max_duplicate_paragraph_char_share: float = key(0.20, "Largest share of characters in such paragraphs.", ge=0, le=1)
    max_duplicate_line_share: float = key(0.30, "Largest share of lines that repeat an earlier one.", ge=0, le=1)
    max_duplicate_line_char_share: float = key(0.20, "Largest share of characters in such lines.", ge=0, le=1)
    max_top_2_gram_char_share: float = key(0.20, "Largest share of characters in the commonest pair of words.", ge=0)
    max_top_3_gram_char_share: float = key(0.18, "Largest share of characters in the commonest 3-gram.", ge=0)
    max_top_4_gram_char_share: float = key(0.16, "Largest share of characters in the commonest 4-gram.", ge=0)
    max_duplicate_5_gram_char_share: float = key(0.15, "Largest share of characters in repeated 5-grams.", ge=0, le=1)
    max_duplicate_6_gram_char_share: float = key(0.14, "Largest share of characters in repeated 6-grams.", ge=0, le=1)
    max_duplicate_7_gram_char_share: float = key(0.13, "Largest share of characters in repeated 7-grams.", ge=0, le=1)
    max_duplicate_8_gram_char_share: float = key(0.12, "Largest share of characters in repeated 8-grams.", ge=0, le=1)
    max_duplicate_9_gram_char_share: float = key(0.11, "Largest share of characters in repeated 9-grams.", ge=0, le=1)
    max_duplicate_10_gram_char_share: float = key(0.10, "Largest share of characters in repeated 10-grams.", ge=0, le=1)


def reasons(text: pa.LargeStringArray, config: Config) -> pa.StringArray:
    """Say by which rule each document is dropped, the first that fails, or null where it stays."""
    split = split_function("regex")
    return pa.array([_reason(doc, config, split) for doc in text.to_pylist()], pa.string())


def _reason(text: str, config: Config, split: Callable[[str], list[str]]) -> str | None:
    if not text:
        return "empty"
    return _repeated_lines(text, config) or _repeated_words(text, split(text), config)


def _repeated_lines(text: str, config: Config) -> str | None:
    paragraphs = PARAGRAPH_BREAK.split(text.strip())
    count, chars = _duplicates(paragraphs)
    if count / len(paragraphs) > config.max_duplicate_paragraph_share:
        return "dup_para_frac"
    if chars / len(text) > config.max_duplicate_paragraph_char_share:
        return "dup_para_char_frac"
    lines = LINE_BREAK.split(text)
    count, chars = _duplicates(lines)
    if count / len(lines) > config.max_duplicate_line_share:
        return "dup_line_frac"
    if chars / len(text) > config.max_duplicate_line_char_share:
        return "dup_line_char_frac"
    return None


def _repeated_words(text: str, words: list[str], config: Config) -> str | None:
    top_shares = (config.max_top_2_gram_char_share, config.max_top_3_gram_char_share, config.max_top_4_gram_char_share)
    spaced = " ".join(words)
    starts = list(accumulate((len(word) + 1 for word in words), initial=0))
    for n, share in enumerate(top_shares, start=2):
        grams = [spaced[start : end - 1] for start, end in zip(starts, starts[n:], strict=False)]
        if grams:
            [(gram, count)] = Counter(grams).most_common(1)
            if len(gram) * count / len(text) > share:
                return f"top_{n}_gram"
    duplicate_shares = (
        config.max_duplicate_5_gram_char_share,
        config.max_duplicate_6_gram_char_share,
        config.max_duplicate_7_gram_char_share,
        config.max_duplicate_8_gram_char_share,
        config.max_duplicate_9_gram_char_share,
        config.max_duplicate_10_gram_char_share,
    )
    joined = "".join(words)
    starts = list(accumulate(map(len, words), initial=0))
    for n, share in enumerate(duplicate_shares, start=5):
        grams = [joined[start:end] for start, end in zip(starts, starts[n:], strict=False)]
        # Most documents repeat little: those cannot fail, whatever the scan would find.
        repeats = len(grams) - len(set(grams))
        if (
            repeats
            and repeats * max(map(len, grams)) / len(text) > share
            and _chars_repeated(grams, n) / len(text) > share
        ):
            return f"duplicated_{n}_n_grams"
    return None


def _duplicates(parts: Sequence[str]) -> tuple[int, int]:
    """Count the parts that repeat an earlier one, and their characters."""
    if len(unique := set(parts)) == len(parts):
        return 0, 0
    return len(parts) - len(unique), sum(map(len, parts)) - sum(map(len, unique))


def _chars_repeated(grams: list[str], n: int) -> int:
    """Count the characters of n-grams seen before, going from left to right and jumping over each one found."""
    seen: set[str] = set()
    chars = position = 0
    while position < len(grams):
        gram = grams[position]
        if gram in seen:
            chars += len(gram)
            position += n
        else:
            seen.add(gram)
            position += 1
    return chars
