"""Short answers compared as SQuAD does: without case, punctuation and English articles.

Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text", section 6.1.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from typing import TypeAlias

TextPairs: TypeAlias = Sequence[tuple[str, Sequence[str]]]  # a predicted text and its references

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized_words(text: str) -> list[str]:
    """Return the words of a text that are compared."""
    return ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split()
