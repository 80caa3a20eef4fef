"""Words of scripts without spaces: by real segmenters, by characters without them; marks stay with their letter."""

from __future__ import annotations

import sys
from itertools import accumulate
from unicodedata import category

import pyarrow as pa
import pytest
import regex

from gptctl.core.context import Context
from gptctl.text import segmentation
from gptctl.text.segmentation import segmenters_used, separate_words, tell
from gptctl.text.words import count_batch, split_text

CHINESE = "人工智能的快速发展go正在改变我们的生活方式。"
JAPANESE = "東京の大学では学生たちが議論していました。"
THAI = "มหาวิทยาลัยแห่งหนึ่งในกรุงเทพมหานคร"
KHMER = "បញ្ញាសិប្បនិម្មិតកំពុងផ្លាស់ប្តូររបៀបរស់នៅ"
MARKED = [
    "किताब का मूल पाठ, क्षेत्र और श्रीमान", "আমরা বাংলায় কথা বলি", "தமிழ் மொழி", "తెలుగు భాష", "ಕನ್ನಡ ನುಡಿ",
    "മലയാളം ന്‍റെ", "ශ්‍රී ලංකාව", "ਪੰਜਾਬੀ ਬੋਲੀ", THAI, "น้ำใจ", KHMER, "မြန်မာဘာသာစကား", "ພາສາລາວ", "བོད་སྐད་",
    "كِتَابٌ عَرَبِيٌّ", "می‌خواهم", "בְּרֵאשִׁית בָּרָא", "e\u0301te\u0301", "葛\U000e0100城市", "か\u3099くせい", "I ❤️ it",
]  # fmt: skip


def column(*texts: str | None) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


@pytest.fixture
def no_segmenters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide all segmenters, as if none were installed."""
    for name in ("rjieba", "fugashi", "nlpo3", "icu"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(segmentation, "find_spec", lambda name: None)
    monkeypatch.setattr(segmentation, "_segmenter", segmentation._segmenter.__wrapped__)


@pytest.mark.parametrize(("text", "words"), [
    (CHINESE, "人工智能 的 快速 发展 go 正在 改变 我们 的 生活 方式 。"),
    (JAPANESE, "東京 の 大学 で は 学生 たち が 議論 し て い まし た 。"),
    (THAI, "มหาวิทยาลัย แห่ง หนึ่ง ใน กรุงเทพมหานคร"),
    ("北京 is 3.5 km", "北京 is 3 . 5 km"),
])  # fmt: skip
def test_words(text: str, words: str) -> None:
    """Words as the published segmenters find them; Latin words beside them stay as they are."""
    assert split_text(text, "regex") == words.split()
    assert count_batch(column(text, None), "regex").tolist() == [len(words.split()), 0]


def test_long_runs() -> None:
    """A text without punctuation is segmented in parts, and no mark is cut off."""
    for text in (THAI * 400, JAPANESE[:-1] * 400):
        words = split_text(text, "regex")
        assert "".join(words) == text and not any(regex.match(r"\p{M}", word) for word in words)


def test_what_was_used() -> None:
    """The segmenter of each language, with the number of documents."""
    used = segmenters_used(column(CHINESE, CHINESE, JAPANESE, THAI, "Latin text", None))
    assert used == {"Chinese by rjieba": 2, "Japanese by fugashi": 1, "Thai by nlpo3": 1}
    assert segmenters_used(column("“Quotes” and 😀", "한국어 문장")) == {}


def test_other_text_is_not_copied() -> None:
    """Latin text, and scripts with spaces."""
    for texts in (["plain", None], ["“quotes” 😀 é"], ["हिन्दी भाषा", "русский", "한국어"], []):
        text = column(*texts)
        assert separate_words(text) is text


@pytest.mark.usefixtures("no_segmenters")
def test_without_segmenters() -> None:
    """Each character is a word, and a warning says so and what to install."""
    assert split_text("go北京です", "regex") == ["go", "北", "京", "で", "す"]
    assert split_text("น้ำใจ", "regex") == ["น้ำ", "ใ", "จ"]
    lines: list[str] = []
    tell(segmenters_used(column(CHINESE, JAPANESE, THAI, KHMER, KHMER)), Context(warn=lines.append))
    assert [line.partition("to segment words: ")[2] for line in lines] == [
        "pip install 'rjieba>=0.2'",
        "pip install 'fugashi>=1.5' 'ipadic>=1.0'",
        "pip install 'pyicu>=2.13' (needs a compiler and ICU's headers)",
        "pip install 'nlpo3>=1.4' 'pythainlp>=5.2'",
    ]
    assert lines[2].startswith("each Lao, Khmer or Burmese character counts as a word (documents: 2)")


def test_by_icu() -> None:
    """PyICU, if it is installed, segments Khmer."""
    pytest.importorskip("icu")
    assert split_text(KHMER, "regex") == ["បញ្ញា", "សិប្បនិម្មិត", "កំពុង", "ផ្លាស់", "ប្តូរ", "របៀបរស់នៅ"]


def check_clusters(text: str) -> None:
    """No word begins inside a grapheme cluster of Unicode (UAX 29), and no letter is lost."""
    bounds = {0, *accumulate(map(len, regex.findall(r"\X", text)))}
    place = 0
    for word in split_text(text, "regex"):
        place = text.index(word, place)
        assert place in bounds, f"{word!r} begins inside a letter"
        place += len(word)
    assert "".join(split_text(text, "regex")) == "".join(text.split())


@pytest.mark.parametrize("text", MARKED)
def test_marks_stay_with_their_letter(text: str) -> None:
    """In Indic and other Asian scripts, vocalised Arabic and Hebrew, and with joiners and variation selectors."""
    check_clusters(text)


@pytest.mark.usefixtures("no_segmenters")
@pytest.mark.parametrize("text", MARKED)
def test_marks_stay_with_their_letter_among_characters(text: str) -> None:
    """The same where characters are words."""
    check_clusters(text)


def test_all_marks() -> None:
    """Every mark that Unicode has continues a word, and none begins one."""
    marks = [c for c in map(chr, range(sys.maxunicode + 1)) if category(c) != "Cn" and regex.match(r"\p{M}", c)]
    assert len(marks) > 2000
    text = column(*(f"a{mark}b c" for mark in marks))
    assert set(count_batch(text, "regex").tolist()) == {2}
    assert set(count_batch(text, "regex", match_datatrove=True).tolist()) == {4}
