"""Short answers compared as SQuAD does: without case, punctuation and English articles.

Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text", section 6.1. Each character of
scripts without spaces between words is compared, as in Lewis et al. 2020, "MLQA", section 6.2.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from typing import TypeAlias

from gptctl.text.segmentation import separate_characters

TextPairs: TypeAlias = Sequence[tuple[str, Sequence[str]]]  # a predicted text and its references

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized_words(text: str) -> list[str]:
    """Return the words of a text that are compared."""
    return ARTICLES.sub(" ", separate_characters(text.lower().translate(PUNCTUATION))).split()
