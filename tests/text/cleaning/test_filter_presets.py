"""The basic preset is safe for code and short texts, and still drops what repeats itself."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pyarrow as pa
import pytest

from gptctl.core.plugins import load, names
from gptctl.text.cleaning.document_batch import DocumentBatch
from gptctl.text.cleaning.filter_chain import FILTERS, ConfiguredFilter, apply_filters
from gptctl.text.cleaning.filter_presets import PRESETS
from gptctl.text.cleaning.web_thresholds import filters_for, published_languages
from gptctl.text.filters.language import LANGUAGES


def dropped(texts: list[str], preset: str) -> list[str | None]:
    """Run a preset's filters, in order, on all texts; the first reason counts."""
    filters = [
        ConfiguredFilter(name, load(FILTERS, name).Config(**settings)) for name, settings in PRESETS[preset].items()
    ]
    found: list[str | None] = apply_filters(
        DocumentBatch(pa.array(texts, pa.large_string())), filters
    ).reasons.to_pylist()
    return found


@pytest.mark.parametrize("preset", PRESETS)
def test_filters_exist(preset: str) -> None:
    """Each preset names filters and settings that there are."""
    assert PRESETS[preset].keys() <= set(names("gptctl.text.filters"))
    dropped(["some text"], preset)


def test_basic_keeps_code() -> None:
    """Python's own library passes."""
    folder = Path(sysconfig.get_path("stdlib"))
    sources = [path.read_text(encoding="utf-8") for path in sorted((folder / "json").glob("*.py"))]
    sources += [
        (folder / name).read_text(encoding="utf-8") for name in ("argparse.py", "typing.py", "opcode.py", "token.py")
    ]
    assert dropped(sources, "basic") == [None] * len(sources)


def test_basic_keeps_short_texts() -> None:
    """A question or an exclamation is no repetition."""
    texts = ["How far is it from Denver to Aspen ?", "To be, or not to be?", "First Citizen:\nWe know't, we know't."]
    assert dropped(texts, "basic") == [None] * 3


def test_basic_drops_repetition() -> None:
    """Text that is mostly the same goes, and so does next to nothing."""
    texts = ["buy now cheap watches today\n" * 50, "one two three four five six " * 30, "ok"]
    assert dropped(texts, "basic") == [
        "gopher_repetition.max_duplicate_line_share",
        "gopher_repetition.max_duplicate_5_gram_char_share",
        "length.min_chars",
    ]


def test_published_thresholds() -> None:
    """Every language of the table has valid settings, and the figures are those of its row."""
    for language in published_languages():
        assert language in LANGUAGES
        for name, settings in filters_for(language).items():
            load(FILTERS, name).Config(**settings)
    chinese = filters_for("zh")
    assert list(chinese) == ["url_blocklist", "language", "gopher_repetition", "fineweb", "gopher_quality"]
    assert chinese["gopher_quality"]["max_mean_word_chars"] == 5
    assert chinese["gopher_quality"]["stop_words"][:3] == ["的", "年", "在"]
    assert chinese["gopher_repetition"]["max_duplicate_5_gram_char_share"] == 0.198
