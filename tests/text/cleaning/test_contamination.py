"""Evaluation texts are found in other documents, whatever their case and punctuation, and nothing else is."""

from __future__ import annotations

import gzip
import inspect
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptctl.core.errors import DataError
from gptctl.text.cleaning import contamination
from gptctl.text.cleaning.contamination import NgramIndex, build_index, count_matches, first_match
from gptctl.text.dedup.shingles import normalized_words
from tests.text.filters.golden import DATA

QUESTION = "Which of the two planets that have no moon at all is nearer to the sun, Mercury or Venus?"  # 19 words
SHORT = "How many moons does the planet Mars have?"  # 8 words


def column(*texts: str | None) -> pa.LargeStringArray:
    """Put texts into a column."""
    return pa.array(texts, pa.large_string())


def test_finds_whole_texts() -> None:
    """A question inside a page counts once for each of its 13-grams."""
    index = build_index([column(QUESTION)])
    assert (len(index.hashes), index.lengths, index.texts, index.too_short) == (7, (13,), 1, 0)
    page = f"Quiz night!\n\n1. {QUESTION.upper().replace(' ', '  ')}\n(a) Mercury"
    assert count_matches(column(page, "Something else.", "", None, QUESTION, QUESTION * 2), index).tolist() == [
        7,
        0,
        0,
        0,
        7,
        14,
    ]


def test_finds_parts() -> None:
    """13 words in a row are enough, 12 are not, and a gram never spans two documents."""
    index = build_index([column(QUESTION)])
    words = QUESTION.split()
    documents = column(
        " ".join(words[2:15]), " ".join(words[2:14]), " ".join(words[14:]), " ".join(words[:9] + words[10:])
    )
    assert count_matches(documents, index).tolist() == [1, 0, 0, 0]
    assert (
        first_match(f"And: {' '.join(words[2:])}", index) == "the two planets that have no moon at all is nearer to the"
    )
    assert first_match("Nothing of the kind", index) is None and first_match("", index) is None


def test_short_texts() -> None:
    """Texts of 8 to 12 words are found as a whole only; shorter ones are counted, not indexed."""
    index = build_index([column(SHORT, "Who was Galileo?"), column("", None)])
    assert (len(index.hashes), index.lengths, index.texts, index.too_short) == (1, (8,), 4, 3)
    assert count_matches(column(f"So, {SHORT.lower()} Two.", SHORT[4:], "Who was Galileo?"), index).tolist() == [
        1,
        0,
        0,
    ]
    assert first_match(f"So, {SHORT} Two.", index) == "how many moons does the planet mars have"
    # A text of exactly 13 words, and one of fewer words than min_words where n is smaller still.
    assert build_index([column("a b c d e f g h i j k l m")]).lengths == (13,)
    assert build_index([column("a b c")], n=3).too_short == 0


def test_scripts_without_spaces() -> None:
    """In Chinese each character counts as a word."""
    article = "人人生而自由在尊严和权利上一律平等他们赋有理性和良心"
    assert count_matches(
        column(f"宣言：{article}。", "完全不同的句子" * 5), build_index([column(article)])
    ).tolist() == [14, 0]


def test_empty_index() -> None:
    """Without evaluation texts nothing is found."""
    for index in (build_index([]), build_index([column()]), build_index([column("too short")])):
        assert count_matches(column(QUESTION), index).tolist() == [0] and first_match(QUESTION, index) is None
    assert count_matches(column(), build_index([column(QUESTION)])).tolist() == []


def test_as_table(tmp_path: Path) -> None:
    """An index comes back from an Arrow file, and means the same in another process."""
    index = build_index([column(QUESTION, SHORT, "Why?")])
    path = tmp_path / "index.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, index.to_table().schema) as writer:
        writer.write_table(index.to_table())
    code = """
        import sys, pyarrow as pa; from gptctl.text.cleaning.contamination import NgramIndex, count_matches
        index = NgramIndex.from_table(pa.ipc.open_file(pa.memory_map(sys.argv[1])).read_all())
        print(index.lengths, index.texts, index.too_short, count_matches(pa.array(sys.argv[2:], pa.large_string()), index).tolist())
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(path), QUESTION, SHORT, "Why?"]
    made = subprocess.run(command, check=True, capture_output=True, text=True)
    assert made.stdout.strip() == "(8, 13) 3 1 [7, 1, 0]"
    empty = build_index([])
    assert count_matches(column(QUESTION), NgramIndex.from_table(empty.to_table())).tolist() == [0]
    with pytest.raises(DataError):
        NgramIndex.from_table(pa.table({"text": ["x"]}))


TEXTS = st.lists(st.lists(st.sampled_from("abcé"), max_size=12).map(" ".join), max_size=6)


@given(TEXTS, TEXTS, st.integers(1, 5), st.integers(1, 5))
def test_against_sets_of_tuples(evaluation: list[str], documents: list[str], n: int, min_words: int) -> None:
    """The same as the plain way, for any n."""
    grams: set[tuple[str, ...]] = set()
    for text in evaluation:
        words = text.split()
        if len(words) >= n:
            grams |= set(zip(*(words[k:] for k in range(n)), strict=False))
        elif len(words) >= min_words:
            grams.add(tuple(words))
    index = build_index([column(*evaluation)], n, min_words)
    assert len(index.hashes) == len(grams)
    assert index.too_short == sum(len(text.split()) < min(n, min_words) for text in evaluation)
    for text, count in zip(documents, count_matches(column(*documents), index), strict=True):
        words = text.split()
        spans = [(i, j) for i in range(len(words)) for j in range(i + 1, len(words) + 1) if tuple(words[i:j]) in grams]
        assert count == len(spans)
        assert first_match(text, index) == (" ".join(words[slice(*min(spans))]) if spans else None)


def test_many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own files: how they are cut into chunks does not matter, and first_match() finds what count_matches() counted."""
    files = [path.read_text(encoding="utf-8") for path in sorted(Path(inspect.__file__).parent.glob("*.py"))]
    index = build_index([column(*files[::20])])
    found = count_matches(column(*files), index)
    assert (found[::20] > 0).sum() >= sum(
        len(words) >= 13 for words in normalized_words(column(*files[::20])).to_pylist()
    )
    assert 0 < (found > 0).sum() < len(files)
    for row in np.flatnonzero(found)[:5]:
        assert first_match(files[row], index) is not None
    monkeypatch.setattr("gptctl.text.dedup.minhash.CHUNK_BYTES", 50_000)
    again = build_index(column(text) for text in files[::20])
    assert np.array_equal(again.hashes, index.hashes)
    assert np.array_equal(count_matches(column(*files), again), found)


def test_on_real_data() -> None:
    """One TREC test question stands, as a whole, inside a longer one that is trained on; film reviews have none."""
    paths = [DATA / "trec" / "train.jsonl", DATA / "trec" / "test.jsonl", DATA / "movie_reviews.jsonl.gz"]
    if not all(path.is_file() for path in paths):
        pytest.skip(f"no TREC questions and film reviews in {DATA}")
    train, test = (
        column(*(json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()))
        for path in paths[:2]
    )
    with gzip.open(paths[2], "rt", encoding="utf-8", newline="") as file:
        reviews = column(*(json.loads(line)["text"] for line in file))
    index = build_index([test])
    assert index.texts == 500 and index.too_short == 336
    found = np.flatnonzero(count_matches(train, index))
    assert [first_match(train[int(row)].as_py(), index) for row in found] == ["what is the largest city in the world"]
    assert not count_matches(reviews, index).any()
    assert contamination.NGRAM_WORDS == 13
