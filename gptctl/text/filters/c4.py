"""Keep the lines of a page that are sentences, and drop pages that have few.

Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer", section 2.2,
with the same decisions as datatrove 0.10.1 when sentences are split by `(?<=[.!?])\\s+`. The paper's list of bad words
is not included. The words of a line are counted before Wikipedia's citation marks are removed from it.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from gptctl.core.config import Settings, key
from gptctl.text.filters import DocumentBatch, FilterResult, Rule

POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
PHRASES = ("[edit]", "[citation needed]", "lorem ipsum", "javascript", *POLICIES)


class Config(Settings):
    """The paper's rules; each can be turned off."""

    filter_no_terminal_punct: bool = key(True, "Drop lines that do not end a sentence.")
    min_sentences: int = key(5, "Fewest sentences of a document that is kept.", ge=0)
    min_line_words: int = key(3, "Fewest words of a line that is kept.", ge=0)
    max_word_chars: int = key(1000, "Longest word in a line that is kept, in characters.", ge=1)
    remove_citations: bool = key(True, "Remove marks such as [1], [edit] and [citation needed].")
    filter_lorem_ipsum: bool = key(True, "Drop documents with placeholder text.")
    filter_javascript: bool = key(True, "Drop lines that name JavaScript.")
    filter_curly_bracket: bool = key(True, "Drop documents with a curly bracket: they hold code.")
    filter_policy: bool = key(True, "Drop lines about terms, privacy and cookies.")


def rules(config: Config) -> tuple[Rule, ...]:
    """Return the rules for whole documents.

    The search stops at the first forbidden line, so that at most one of the first two rules drops a document.
    """
    return (
        Rule("filter_lorem_ipsum", "a line with placeholder text", 0, datatrove="lorem_ipsum"),
        Rule("filter_curly_bracket", "a line with a curly bracket", 0, datatrove="curly_bracket"),
        Rule(
            "min_sentences",
            "sentences in the lines kept",
            config.min_sentences,
            drop_if="below",
            datatrove="too_few_sentences",
        ),
    )


def measure(batch: DocumentBatch, config: Config) -> FilterResult:
    """Count each document's sentences in the lines that are kept, and return those lines.

    The text of a dropped document is not changed.
    """
    from gptctl.text.kernels import c4 as kernel
    from gptctl.text.kernels.characters import buffers, character_classes

    data, offsets = buffers(batch.text)
    switches = (
        (config.filter_no_terminal_punct, kernel.PUNCTUATION_RULE), (config.remove_citations, kernel.CITATION_RULE),
        (config.filter_lorem_ipsum, kernel.LOREM_RULE), (config.filter_javascript, kernel.JAVASCRIPT_RULE),
        (config.filter_curly_bracket, kernel.CURLY_RULE), (config.filter_policy, kernel.POLICY_RULE),
    )  # fmt: skip
    rule_bits = sum(bit for is_on, bit in switches if is_on)
    phrases = np.frombuffer("".join(PHRASES).encode(), np.uint8)
    bounds = np.cumsum([0, *map(len, PHRASES)])
    out = np.empty(max(1, int(offsets[-1] - offsets[0])), np.uint8)
    ends = np.zeros(len(batch) + 1, np.int64)
    figures = np.empty((len(batch), 3))
    kernel.keep_sentences(
        data, offsets, character_classes(), phrases, bounds, rule_bits, config.min_line_words, config.max_word_chars,
        config.min_sentences, out, ends[1:], figures,
    )  # fmt: skip
    kept = pa.Array.from_buffers(
        pa.large_string(), len(batch), [None, pa.py_buffer(ends), pa.py_buffer(out[: ends[-1]])]
    )
    return FilterResult(figures, kept)
