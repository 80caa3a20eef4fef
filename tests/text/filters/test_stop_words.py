"""The share of stop words, and whom it drops."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from gptctl.core.errors import UsageError
from gptctl.text.cleaning.rule import drop_reasons
from gptctl.text.filters import DocumentBatch
from gptctl.text.filters.stop_words import Config, measure, rules
from gptctl.text.punctuation import PUNCTUATION
from gptctl.text.words import WordSplitter, split_text, stop_words
from tests.text.filters.golden import DATA, texts

TEXTS = [
    "The cat sat on the mat, and it was happy.",
    "| 12 | 15.7 | total | 99 |",
    "the of AND to",
    "... !!! ,,,",
    "",
    None,
]


def batch(texts: Sequence[str | None], splitter: WordSplitter = "regex") -> DocumentBatch:
    """Put documents into a batch."""
    return DocumentBatch(pa.array(texts, pa.large_string()), splitter=splitter)


@pytest.mark.parametrize("splitter", ["regex", "nltk"])
def test_shares(splitter: WordSplitter) -> None:
    """Case and punctuation do not matter; without words the share is 0."""
    shares = measure(batch(TEXTS, splitter), Config()).figures
    assert shares[:, 0] == pytest.approx([6 / 10, 0, 1, 0, 0, 0])
    assert (shares[:, 0] == shares[:, 1]).all()


def test_reasons() -> None:
    """Too few, and where it is wanted, too many."""
    config = Config(max_share=0.9)
    few, many = "stop_words.min_share", "stop_words.max_share"
    assert drop_reasons("stop_words", rules(config), measure(batch(TEXTS), config).figures).to_pylist() == [
        None,
        few,
        many,
        few,
        few,
        few,
    ]
    assert drop_reasons("stop_words", rules(Config()), measure(batch(TEXTS), Config()).figures).to_pylist()[2] is None


def test_no_documents() -> None:
    """An empty batch is result too."""
    assert measure(batch([]), Config()).figures.shape == (0, 2)
    assert measure(batch([""]), Config()).figures.tolist() == [[0, 0]]


def test_unknown_language() -> None:
    """The hint lists the languages there are."""
    with pytest.raises(UsageError, match="did you mean 'english'"):
        measure(batch(["a"]), Config(language="engish"))


def test_after_other_filters() -> None:
    """Documents that are gone do not shift the others' words."""
    whole = batch(TEXTS)
    assert len(whole.words.starts) > 1
    fewer = whole.filter(pa.array([False, False, True, True, True, False]))
    assert measure(fewer, Config()).figures[:, 0].tolist() == [1, 0, 0]


def test_against_one_word_at_a_time() -> None:
    """Python's own files, counted the slow way."""
    stops, _ = stop_words("english")
    files = sorted(Path(json.__file__).parent.parent.glob("*.py"))[:60]
    documents: list[str | None] = [path.read_text(encoding="utf-8") for path in files]
    expected = []
    for text in documents:
        spoken = [word for word in split_text(text or "", "regex") if not PUNCTUATION.issuperset(word)]
        expected.append(sum(word.lower() in stops for word in spoken) / max(len(spoken), 1))
    assert measure(batch(documents), Config()).figures[:, 0] == pytest.approx(expected)


def test_on_real_documents() -> None:
    """Every review stays; of the Declaration of Human Rights in 64 other languages, most go."""
    documents = texts()
    with gzip.open(DATA / "mixed-docs.jsonl.gz", "rt", encoding="utf-8", newline="") as file:
        sources = np.array([json.loads(line)["source"] for line in file])
    dropped = measure(DocumentBatch(documents), Config()).figures[:, 0] < Config().min_share
    assert not dropped[np.isin(sources, ["reviews", "inaugural", "webtext", "abc"])].any()
    assert dropped[sources == "udhr"].mean() > 0.8
    assert 0 < dropped[sources == "pages"].mean() < 0.05
