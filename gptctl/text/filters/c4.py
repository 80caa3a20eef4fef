"""Keep the lines of a page that are sentences, and drop pages that have few.

Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer", section 2.2,
decided as datatrove 0.10.1 does with sentences split by `(?<=[.!?])\\s+`. The paper's list of bad words is left out.
A line's words are counted before Wikipedia's citation marks are removed from it.
"""

from __future__ import annotations

import re

import pyarrow as pa

from gptctl.core.config import Settings, key

CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
SENTENCE_BREAK = re.compile(r"(?<=[.!?])\s+")
TERMINALS = (".", "?", "!", '"', "'")
POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")


class Config(Settings):
    """The paper's rules, each to be switched."""

    filter_no_terminal_punct: bool = key(True, "Drop lines that do not end a sentence.")
    min_sentences: int = key(5, "Fewest sentences of a document that is kept.", ge=0)
    min_line_words: int = key(3, "Fewest words of a line that is kept.", ge=0)
    max_word_chars: int = key(1000, "Longest word in a line that is kept, in characters.", ge=1)
    remove_citations: bool = key(True, "Remove marks such as [1], [edit] and [citation needed].")
    filter_lorem_ipsum: bool = key(True, "Drop documents with placeholder text.")
    filter_javascript: bool = key(True, "Drop lines that name JavaScript.")
    filter_curly_bracket: bool = key(True, "Drop documents with a curly bracket: they hold code.")
    filter_policy: bool = key(True, "Drop lines about terms, privacy and cookies.")


def rewrite(text: pa.LargeStringArray, config: Config) -> tuple[pa.LargeStringArray, pa.StringArray]:
    """Give each document's kept lines, and why it is dropped, null where it stays. A dropped one stays as it was."""
    results = [_rewrite(doc, config) for doc in text.to_pylist()]
    return pa.array([kept for kept, _ in results], pa.large_string()), pa.array(
        [why for _, why in results], pa.string()
    )


def _rewrite(text: str, config: Config) -> tuple[str, str | None]:
    kept: list[str] = []
    sentences = 0
    for raw in text.splitlines():
        line = raw.strip()
        words = line.split()
        if any(len(word) > config.max_word_chars for word in words):
            continue
        if config.remove_citations:
            line = CITATION.sub("", line)
        if config.filter_no_terminal_punct and (not line.endswith(TERMINALS) or line.endswith("...")):
            continue
        if len(words) < config.min_line_words:
            continue
        lower = line.lower()
        if config.filter_lorem_ipsum and "lorem ipsum" in lower:
            return text, "lorem_ipsum"
        if config.filter_javascript and "javascript" in lower:
            continue
        if config.filter_curly_bracket and "{" in line:
            return text, "curly_bracket"
        if config.filter_policy and any(phrase in lower for phrase in POLICIES):
            continue
        sentences += sum(bool(piece.strip()) for piece in SENTENCE_BREAK.split(line))
        kept.append(line)
    if sentences < config.min_sentences:
        return text, "too_few_sentences"
    return "\n".join(kept).strip(), None
