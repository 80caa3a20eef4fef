"""The presets of `gptctl clean --preset`: named sets of filters with their settings."""

from __future__ import annotations

from typing import Any

# The thresholds of the Gopher paper are for web pages. They drop 263 of the 868 files (30 %) of Python's own library,
# and texts of one or two sentences, in which the most frequent pair of words is often more than a fifth of the text.
# The thresholds below only drop texts that are mostly repetition: 0 of 864 library files of 20 characters or more, 0 of
# 5,452 TREC questions, 0 of 300 film reviews. The words of an n-gram are joined by spaces, so that its share of a text
# without spaces can be larger than 1 ("Oh!" is "Oh !"); the limit is therefore 2.
MOSTLY_REPETITION: dict[str, float] = {
    "max_duplicate_paragraph_share": 0.6,
    "max_duplicate_paragraph_char_share": 0.6,
    "max_duplicate_line_share": 0.6,
    "max_duplicate_line_char_share": 0.6,
    **{f"max_top_{n}_gram_char_share": 2.0 for n in (2, 3, 4)},
    **{f"max_duplicate_{n}_gram_char_share": 0.6 for n in range(5, 11)},
}

# Preset -> filter -> setting -> value. Filters run in this order; other settings keep the filter's default.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "basic": {"length": {}, "gopher_repetition": MOSTLY_REPETITION},
    # The order of Penedo et al. 2024, "The FineWeb Datasets", section 3: English from a score of 0.65, C4 without its
    # rule on line ends, personal data last.
    "web": {
        "url_blocklist": {},
        "language": {"languages": ["en"]},
        "gopher_repetition": {},
        "gopher_quality": {},
        "c4": {"filter_no_terminal_punct": False},
        "fineweb": {},
    },
    "none": {},
}
# The presets that mask personal data, as `--pii` does.
PII_PRESETS = frozenset({"web"})
