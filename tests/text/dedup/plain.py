"""Words, shingles and shares in common in plain Python, to compare the compiled ones with; and texts that are odd."""

from __future__ import annotations

import os

import pyarrow as pa
import regex
from hypothesis import strategies as st

from gptctl.text.dedup.shingles import Shingling
from gptctl.text.segmentation import separate_text

EXAMPLES = int(os.environ.get("GPTCTL_FUZZ", "100"))
UNSPACED = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}ーｰﾞﾟ\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
    r"\p{Tai_Le}\p{New_Tai_Lue}\p{Tai_Tham}\p{Tai_Viet}\p{Ahom}]"
)  # fmt: skip
MARK = regex.compile(r"[\p{M}\u0e33\u0eb3\u200c\u200d]")
PIECES = [
    "a", "A", "b", "the", "The", "Straße", "STRASSE", "ÉTÉ", "été", "e\u0301", "İ", "Σ", "ς", "ſ", "\u212a", "ǅ", "Ⅷ",
    "½", "٣", "2", "Ⓐ", "_", "日本", "々", "かな", "カー", "ー", "ｶﾅ", "ภาษา", "ລາວ", "ខ្មែរ", "မြန်", "བོད", "ที่", "किताब", "की", "\u093f", "\ufe0f", "\u200c", "\U00020000",
    "\U0001f600", "\U00010400", "\u200b", "\u200d", "\0", ".", ",", "-", "'", "…", "。",
    " ", "  ", "\t", "\n", "\r\n", "\x85", "\x1c", "\xa0", "\u2028", "\u3000",
]  # fmt: skip
odd = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=40).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=40).map(" ".join),
    st.lists(st.sampled_from(PIECES[:5]), max_size=40).map(" ".join),
    st.text(max_size=60),
)
columns = st.lists(st.one_of(odd, st.none()), min_size=1, max_size=5).map(
    lambda texts: pa.array(texts, pa.large_string())
)
shinglings = st.builds(Shingling, st.integers(1, 9), st.sampled_from(["words", "chars"]), st.booleans(), st.booleans())


def words(text: str, normalize: bool = True, segment: bool = False) -> list[str]:
    """Split a text into words, character by character."""
    if not normalize:
        return text.split()
    found: list[str] = []
    joins = False  # whether the next letter belongs to the last word
    after_letter = False
    for character in separate_text(text) if segment else text:
        if MARK.match(character) and after_letter:
            found[-1] += character
            continue
        after_letter = character.isalnum() and not MARK.match(character)
        alone = not segment and bool(UNSPACED.match(character))
        if after_letter and joins and not alone:
            found[-1] += character.lower()[0]
        elif after_letter:
            found.append(character.lower()[0])
        joins = after_letter and not alone
    return found


def shingles(text: str, how: Shingling) -> list[tuple[str, ...]]:
    """Return a text's shingles in their order."""
    found = words(text, how.normalize, how.segments_words)
    units = found if how.unit == "words" else list(" ".join(found))
    return list(zip(*(units[place:] for place in range(how.ngram)), strict=False))


def jaccard(a: str, b: str, how: Shingling) -> float:
    """Return the share of their shingles that two texts have in common, 0 without any."""
    first, second = set(shingles(a, how)), set(shingles(b, how))
    union = len(first | second)
    return len(first & second) / union if union else 0.0
