"""Words, stop words and texts without them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from gptctl.core.errors import UsageError
from gptctl.text.words import describe_splitter, packaged_stop_words, remove_stop_words, split_text, stop_words

DATA = Path(os.environ.get("GPTCTL_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))


def test_regex_words() -> None:
    """Word characters and runs of other marks."""
    assert split_text("Don't stop... 3.5 (ça)", "regex") == [
        "Don",
        "'",
        "t",
        "stop",
        "...",
        "3",
        ".",
        "5",
        "(",
        "ça",
        ")",
    ]


def test_nltk_words() -> None:
    """Sentences first, then the Treebank's rules."""
    assert split_text("They'll go. Don't stop!", "nltk") == ["They", "'ll", "go", ".", "Do", "n't", "stop", "!"]


def test_descriptions() -> None:
    """The manifest says what ran."""
    assert describe_splitter("regex") == "regex words"
    assert describe_splitter("nltk") in ("nltk words (punkt_tab)", "nltk words (no punkt data: untrained)")


def test_unknown_language() -> None:
    """The hint lists the languages there are."""
    with pytest.raises(UsageError) as caught:
        stop_words("englsh")
    assert "did you mean 'english'" in caught.value.message
    assert "english" in str(caught.value.hint)


@pytest.mark.parametrize("splitter", ["regex", "nltk"])
def test_remove_stop_words(splitter: str) -> None:
    """Stop words go whatever their case; the rest is joined by spaces; lines and nulls stay."""
    texts = pa.array(["The cat sat on\nthe mat.", "", None, "A"], pa.large_string())
    result, removed, note = remove_stop_words(texts, splitter, "english")  # type: ignore[arg-type]
    assert result.to_pylist() == ["cat sat\nmat .", "", None, ""]
    assert result.type == pa.large_string()
    assert removed > 0
    assert note.startswith(f"{splitter} words") and note.endswith(":english")


def test_packaged_lists() -> None:
    """Each language of NLTK's lists and Chinese, in lower case, without an NLTK that has data."""
    lists = packaged_stop_words()
    assert len(lists) == 32
    assert all(len(words) > 50 and words == {word.lower() for word in words} for words in lists.values())
    for language, word in (
        ("german", "und"),
        ("hebrew", "של"),
        ("bengali", "এবং"),
        ("chinese", "的"),
        ("tamil", "ஒரு"),
    ):
        assert word in lists[language]


@pytest.mark.parametrize("splitter", ["regex", "nltk"])
def test_remove_chinese_stop_words(splitter: str) -> None:
    """Words are segmented first, so that there is something to remove."""
    texts = pa.array(["人工智能的快速发展改变了我们的生活", None], pa.large_string())
    result, _, note = remove_stop_words(texts, splitter, "chinese")  # type: ignore[arg-type]
    assert result.to_pylist() == ["人工智能 快速 发展 改变 生活", None]
    assert note.endswith(":chinese")


def in_process(nltk_data: str, code: str) -> str:
    """Run code in a new interpreter that looks for NLTK's data in one folder only."""
    code = f"import nltk; nltk.data.path[:] = [{nltk_data!r}]\n{code}"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


PRINT_LIST = "from gptctl.text.words import stop_words; w, n = stop_words('english'); print(n, len(w), 'the' in w)"


def test_packaged_list_without_data(tmp_path: Path) -> None:
    """Without NLTK's data the packaged list serves, and the note says so."""
    name, count, has_the = in_process(str(tmp_path), PRINT_LIST).split()
    assert name == "packaged:english" and int(count) > 150 and has_the == "True"
    note = "from gptctl.text.words import describe_splitter; print(describe_splitter('nltk'))"
    assert in_process(str(tmp_path), note) == "nltk words (no punkt data: untrained)"


def test_nltk_list_with_data() -> None:
    """With NLTK's data its list is used, also for other languages; each of them has a packaged list too."""
    folder = DATA / "nltk_data"
    if not folder.is_dir():
        pytest.skip(f"no NLTK data in {folder}")
    lists = {path.name for path in (folder / "corpora" / "stopwords").iterdir()} - {"README"}
    assert lists <= packaged_stop_words().keys()
    assert in_process(str(folder), PRINT_LIST) == "nltk:english 179 True"
    german = "from gptctl.text.words import stop_words; w, n = stop_words('german'); print(n, 'und' in w)"
    assert in_process(str(folder), german) == "nltk:german True"
