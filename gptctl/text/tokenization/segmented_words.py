"""Tokenizers of words that were segmented: their tokenizer.json says by what, in a comment of the pattern of words.

A tokenizer.json cannot call a segmenter. gptctl separates the words of a text first if the comment is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from gptctl.core.errors import MachineError
from gptctl.text.segmentation import install_command, segmenters_used, separate_words

COMMENT = re.compile(r"\(\?#segmented: ([^)]*)\)")


def mark(pattern: str, segmenters: Iterable[str]) -> str:
    """Return a pattern of words with a comment that names segmenters, such as "Chinese by rjieba"."""
    names = "; ".join(sorted(segmenters))
    return f"(?#segmented: {names}){pattern}" if names else pattern


def marked(definition: dict[str, Any]) -> frozenset[str]:
    """Return the segmenters that the definition of a tokenizer (the content of a tokenizer.json) names."""
    pattern = ((definition.get("pre_tokenizer") or {}).get("pattern") or {}).get("Regex", "")
    found = COMMENT.match(pattern)
    return frozenset(found[1].split("; ")) if found else frozenset()


def separate(texts: Sequence[str], segmenters: frozenset[str]) -> list[str]:
    """Return texts with their words separated. Raises MachineError (4) if a segmenter of the tokenizer is missing."""
    column = pa.array(texts, pa.large_string())
    languages = {entry.partition(" by ")[0]: entry for entry in segmenters}
    for entry in segmenters_used(column):
        language, _, name = entry.partition(" by ")
        wanted = languages.get(language, entry)
        if wanted != entry:
            raise MachineError(
                f"the tokenizer was trained on {language} words by {wanted.partition(' by ')[2]}, and here is {name}",
                install_command(language),
            )
    separated: list[str] = separate_words(column).to_pylist()
    return separated
