"""Drop documents that repeat themselves.

Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from Training Gopher", appendix A1.1, table
A1, decided as datatrove 0.10.1 does on the same words. What that means exactly, since the paper leaves it open:

- paragraphs are split at two or more line feeds in the stripped text, lines at one or more in the unstripped;
- every occurrence after the first is a duplicate; all shares are of the text's characters, white space included;
- the most frequent n-gram is joined by spaces, the first seen wins a tie, and a count of one counts too;
- duplicate n-grams are joined without spaces and found from left to right, jumping over each one found.
"""

from __future__ import annotations

import numpy as np

from gptctl.core.config import Settings, key
from gptctl.text.cleaning.batch import Batch, Measured, Rule


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


def rules(config: Config) -> tuple[Rule, ...]:
    """Return the rules in datatrove's order, with its names."""
    shares = (
        ("dup_para_frac", "share of paragraphs that repeat an earlier one", config.max_duplicate_paragraph_share),
        ("dup_para_char_frac", "share of characters in such paragraphs", config.max_duplicate_paragraph_char_share),
        ("dup_line_frac", "share of lines that repeat an earlier one", config.max_duplicate_line_share),
        ("dup_line_char_frac", "share of characters in such lines", config.max_duplicate_line_char_share),
        *(
            (f"top_{n}_gram", f"share of characters in the commonest {n}-gram", share)
            for n, share in (
                (2, config.max_top_2_gram_char_share),
                (3, config.max_top_3_gram_char_share),
                (4, config.max_top_4_gram_char_share),
            )
        ),
        *(
            (f"duplicated_{n}_n_grams", f"share of characters in repeated {n}-grams", share)
            for n, share in (
                (5, config.max_duplicate_5_gram_char_share),
                (6, config.max_duplicate_6_gram_char_share),
                (7, config.max_duplicate_7_gram_char_share),
                (8, config.max_duplicate_8_gram_char_share),
                (9, config.max_duplicate_9_gram_char_share),
                (10, config.max_duplicate_10_gram_char_share),
            )
        ),
    )
    return (Rule("empty", "characters", 1, above=False), *(Rule(*share) for share in shares))


def measure(batch: Batch, config: Config) -> Measured:
    """Measure how much of each document repeats itself, up to the first rule that fails."""
    from gptctl.text.kernels.characters import buffers, kinds
    from gptctl.text.kernels.repetition import FIGURES, measure_repetition

    data, offsets = buffers(batch.text)
    words, (lengths, _) = batch.words, batch.words.traits
    figures = np.empty((len(batch), FIGURES))
    limits = np.array([np.inf if batch.complete else rule.threshold for rule in rules(config)])
    measure_repetition(
        data, offsets, kinds(), words.data, words.starts, lengths, words.first, words.last, limits, figures
    )
    return Measured(figures)
