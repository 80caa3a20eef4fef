"""The thresholds of the preset `web` for languages other than English.

They are those of FineWeb-2 (Penedo et al. 2025, "FineWeb2: One Pipeline to Scale Them All"), which computes them for
each language from texts of that language. FineWeb-2 uses the filters gopher_repetition without its rules on paragraphs,
fineweb without its rule on short lines, and gopher_quality. It does not use c4. Its scores of languages are those of
another model, so `language.min_score` stays as it is.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources
from typing import Any

NO_LIMIT = 1.0  # of a share
TEXT_COLUMNS = ("language", "configuration", "stop_words")


@cache
def published_languages() -> dict[str, dict[str, str]]:
    """Return the row of the table for each language code, such as "zh"."""
    table = resources.files("gptctl.text.cleaning").joinpath("web_thresholds.tsv").read_text(encoding="utf-8")
    rows = csv.DictReader(table.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    return {row["language"]: row for row in rows}


def filters_for(language: str) -> dict[str, dict[str, Any]]:
    """Return the filters of the preset `web` for a language, in order, each with its settings."""
    row = published_languages()[language]
    number = {name: float(value) for name, value in row.items() if name not in TEXT_COLUMNS}
    repetition = {
        "max_duplicate_paragraph_share": NO_LIMIT,
        "max_duplicate_paragraph_char_share": NO_LIMIT,
        "max_duplicate_line_share": number["dup_line"],
        "max_duplicate_line_char_share": NO_LIMIT,
        **{f"max_top_{n}_gram_char_share": number[f"top_{n}"] for n in (2, 3, 4)},
        **{f"max_duplicate_{n}_gram_char_share": number[f"dup_{n}"] for n in range(5, 11)},
    }
    lines = {
        "min_punctuated_line_share": max(0.0, number["punctuated"]),  # below 0 for two languages
        "max_short_line_share": NO_LIMIT,
        "max_duplicate_line_char_share": 0.1,
        "max_line_feeds_per_word": number["line_feeds"],
    }
    quality = {
        "min_mean_word_chars": number["min_word"],
        "max_mean_word_chars": number["max_word"],
        "min_alpha_word_share": number["alpha"],
        "stop_words": row["stop_words"].split(),
    }
    return {
        "url_blocklist": {},
        "language": {"languages": [language]},
        "gopher_repetition": repetition,
        "fineweb": lines,
        "gopher_quality": quality,
    }
