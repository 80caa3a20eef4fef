"""Drop documents that repeat themselves.

Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from Training Gopher", appendix A1.1, table
A1, with the same decisions as datatrove 0.10.1 on the same words. What the paper does not define:

- Paragraphs are separated by two or more line feeds in the stripped text, lines by one or more in the text as it is.
- Every occurrence after the first is a duplicate. All shares are of the text's characters, white space included.
- The most frequent n-gram is joined by spaces; of two that are equally frequent, the first one counts. It counts even
  if it occurs once.
- Duplicate n-grams are joined without spaces and found from left to right without overlap.
"""

from __future__ import annotations

import numpy as np

from gptctl.core.config import Settings, key
from gptctl.text.filters import DocumentBatch, FilterResult, Rule


class Config(Settings):
    """Largest shares kept; the defaults are those of the paper's table A1."""

    max_duplicate_paragraph_share: float = key(
        0.30, "Largest share of paragraphs that repeat an earlier one.", ge=0, le=1
    )
    max_duplicate_paragraph_char_share: float = key(0.20, "Largest share of characters in such paragraphs.", ge=0, le=1)
    max_duplicate_line_share: float = key(0.30, "Largest share of lines that repeat an earlier one.", ge=0, le=1)
    max_duplicate_line_char_share: float = key(0.20, "Largest share of characters in such lines.", ge=0, le=1)
    max_top_2_gram_char_share: float = key(
        0.20, "Largest share of characters in the most frequent pair of words.", ge=0
    )
    max_top_3_gram_char_share: float = key(0.18, "Largest share of characters in the most frequent 3-gram.", ge=0)
    max_top_4_gram_char_share: float = key(0.16, "Largest share of characters in the most frequent 4-gram.", ge=0)
    max_duplicate_5_gram_char_share: float = key(0.15, "Largest share of characters in repeated 5-grams.", ge=0, le=1)
    max_duplicate_6_gram_char_share: float = key(0.14, "Largest share of characters in repeated 6-grams.", ge=0, le=1)
    max_duplicate_7_gram_char_share: float = key(0.13, "Largest share of characters in repeated 7-grams.", ge=0, le=1)
    max_duplicate_8_gram_char_share: float = key(0.12, "Largest share of characters in repeated 8-grams.", ge=0, le=1)
    max_duplicate_9_gram_char_share: float = key(0.11, "Largest share of characters in repeated 9-grams.", ge=0, le=1)
    max_duplicate_10_gram_char_share: float = key(0.10, "Largest share of characters in repeated 10-grams.", ge=0, le=1)


def rules(config: Config) -> tuple[Rule, ...]:
    """Return the rules in datatrove's order. The first has no key: a document without characters is dropped."""
    rules = [
        Rule("empty", "characters", 1, "below", datatrove="empty"),
        Rule(
            "max_duplicate_paragraph_share",
            "share of paragraphs that repeat an earlier one",
            config.max_duplicate_paragraph_share,
            datatrove="dup_para_frac",
        ),
        Rule(
            "max_duplicate_paragraph_char_share",
            "share of characters in such paragraphs",
            config.max_duplicate_paragraph_char_share,
            datatrove="dup_para_char_frac",
        ),
        Rule(
            "max_duplicate_line_share",
            "share of lines that repeat an earlier one",
            config.max_duplicate_line_share,
            datatrove="dup_line_frac",
        ),
        Rule(
            "max_duplicate_line_char_share",
            "share of characters in such lines",
            config.max_duplicate_line_char_share,
            datatrove="dup_line_char_frac",
        ),
    ]
    for n in (2, 3, 4):
        key = f"max_top_{n}_gram_char_share"
        description = f"share of characters in the most frequent {n}-gram"
        rules.append(Rule(key, description, getattr(config, key), datatrove=f"top_{n}_gram"))
    for n in range(5, 11):
        key = f"max_duplicate_{n}_gram_char_share"
        description = f"share of characters in repeated {n}-grams"
        rules.append(Rule(key, description, getattr(config, key), datatrove=f"duplicated_{n}_n_grams"))
    return tuple(rules)


def measure(batch: DocumentBatch, config: Config) -> FilterResult:
    """Measure how much of each document repeats itself; figures after the first one above its threshold are NaN."""
    from gptctl.text.kernels.characters import buffers, character_classes
    from gptctl.text.kernels.repetition import FIGURES, measure_repetition

    data, offsets = buffers(batch.text)
    words, (lengths, _) = batch.words, batch.words.traits
    figures = np.empty((len(batch), FIGURES))
    limits = np.array([np.inf if batch.all_figures else rule.threshold for rule in rules(config)])
    measure_repetition(
        data, offsets, character_classes(), words.data, words.starts, lengths, words.first, words.last, limits, figures
    )
    return FilterResult(figures)
