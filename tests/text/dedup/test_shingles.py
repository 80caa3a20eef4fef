"""Compiled shingles and plain Python agree on any text; shares of them are exact."""

from __future__ import annotations

import sys
from unicodedata import category

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from gptctl.text.dedup.shingles import Shingling, hashes, jaccard, normalized_words, sets
from gptctl.text.kernels.shingles import CODE_POINT, EXTEND, IN_WORD, SINGLE, code_point_table
from tests.text.dedup import plain
from tests.text.filters.golden import texts as real_texts

HOWS = [
    Shingling(), Shingling(24, "chars"), Shingling(3, normalize=False), Shingling(9, "chars", normalize=False),
    Shingling(1, segment=False),
]  # fmt: skip


def check(text: pa.LargeStringArray, how: Shingling) -> None:
    """Same number and order of shingles; equal hashes for equal shingles, and only for them."""
    found, counts = hashes(text, how)
    expected = [plain.shingles(document or "", how) for document in text.to_pylist()]
    assert counts.tolist() == list(map(len, expected))
    pairs = list(zip(found.tolist(), (shingle for document in expected for shingle in document), strict=True))
    assert len(set(pairs)) == len({value for value, _ in pairs}) == len({shingle for _, shingle in pairs})


@settings(deadline=None, max_examples=plain.EXAMPLES)
@given(plain.columns, plain.shinglings)
def test_shingles_of_any_text(text: pa.LargeStringArray, how: Shingling) -> None:
    """Documents, and slices of them, which begin inside Arrow's buffers."""
    check(text, how)
    check(text[1:], how)


@pytest.mark.parametrize("how", HOWS, ids=str)
def test_shingles_of_real_documents(how: Shingling) -> None:
    """The same on every eighth of 1,557 documents."""
    check(real_texts().take(pa.array(range(0, 1557, 8))), how)


def test_classes_of_all_characters() -> None:
    """Each of the 1,114,112 code points is a letter, a word of its own or a separator as Python and Unicode say."""
    characters = list(map(chr, range(sys.maxunicode + 1)))
    assigned = np.fromiter((category(c) != "Cn" for c in characters), bool)  # for Python; regex may know more
    mark = assigned & np.fromiter((bool(plain.MARK.match(c)) for c in characters), bool)
    in_word = np.fromiter(map(str.isalnum, characters), bool)
    alone = in_word & np.fromiter((bool(plain.UNSPACED.match(c)) for c in characters), bool)
    lower = np.fromiter((ord(c.lower()[0]) for c in characters), np.uint32)
    flags = np.select([mark, alone, in_word], [EXTEND | IN_WORD, SINGLE | IN_WORD, IN_WORD]).astype(np.uint32)
    expected = np.where(flags > 0, lower | flags, 0)
    assert np.array_equal(code_point_table(True), expected)
    assert np.array_equal(code_point_table(True, single=False), expected & ~np.uint32(SINGLE))
    visible = ~np.fromiter(map(str.isspace, characters), bool)
    assert np.array_equal(code_point_table(False) > 0, visible)
    assert np.array_equal((code_point_table(False) & CODE_POINT)[visible], np.flatnonzero(visible))


def test_hashes_stay() -> None:
    """Indexes of signatures are kept: hashes are the same in every version and on every machine."""
    text = pa.array(["Hello, wide WORLD of 5 words"], pa.large_string())
    last = [f"{hashes(text, how)[0][-1]:016x}" for how in HOWS]
    assert last == ["9fe6556c14354ac7", "50c8e02748f65499", "f4e74e3fe3712f37", "3f0b512ff58e4922", "9be4c99b79024f14"]


def test_impossible_ngram() -> None:
    """An n-gram has at least one word."""
    with pytest.raises(ValueError, match="ngram"):
        Shingling(ngram=0)


def test_words() -> None:
    """Lower case, letters and digits; scripts without spaces are cut into characters; case and signs, if so wanted."""
    texts = ["Hello, WORLD-2!", "", " .. ", "日本 go", "go日本", None]
    expected = [["hello", "world", "2"], [], [], ["日", "本", "go"], ["go", "日", "本"], []]
    column = pa.array(texts, pa.large_string())
    assert normalized_words(column).to_pylist() == expected
    assert hashes(column, Shingling(1, segment=False))[1].tolist() == list(map(len, expected))
    assert hashes(column, Shingling(1, normalize=False))[1].tolist() == [2, 0, 1, 2, 1, 0]
    assert hashes(column, Shingling(3, "chars"))[1].tolist() == [11, 0, 0, 4, 4, 0]


@settings(deadline=None, max_examples=plain.EXAMPLES)
@given(plain.columns)
def test_words_as_strings(text: pa.LargeStringArray) -> None:
    """Those that are hashed."""
    assert normalized_words(text[1:]).to_pylist() == [plain.words(document or "") for document in text[1:].to_pylist()]


@settings(deadline=None, max_examples=plain.EXAMPLES)
@given(plain.columns, plain.columns, plain.shinglings)
def test_shares_of_any_texts(ours: pa.LargeStringArray, theirs: pa.LargeStringArray, how: Shingling) -> None:
    """All pairs within a column, and across two."""
    columns = ours[1:], theirs
    (values, offsets), others = (sets(column, how) for column in columns)
    for row, document in enumerate(columns[0].to_pylist()):
        part = values[offsets[row] : offsets[row + 1]]
        assert (part[1:] > part[:-1]).all() and len(part) == len(set(plain.shingles(document or "", how)))
    for right, other in ((columns[0], None), (columns[1], others)):
        left_rows, right_rows = (rows.ravel() for rows in np.indices((len(columns[0]), len(right))))
        expected = [
            plain.jaccard(columns[0][int(a)].as_py() or "", right[int(b)].as_py() or "", how)
            for a, b in zip(left_rows, right_rows, strict=True)
        ]
        assert jaccard(values, offsets, left_rows, right_rows, other).tolist() == expected


def test_shares_by_hand() -> None:
    """Two of four pairs of words; the same words; no pair of words at all."""
    text = pa.array(["a b c d", "a b c e", "A, b!", "a b", "a"], pa.large_string())
    pairs = np.array([[0, 1], [2, 3], [4, 4], [4, 3], [0, 0]])
    assert jaccard(*sets(text, Shingling(2)), pairs[:, 0], pairs[:, 1]).tolist() == [0.5, 1, 0, 0, 1]


def test_columns_that_nobody_may_write_to() -> None:
    """A column in a file's bytes gives the same as one in memory of its own."""
    text = real_texts()[:50]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, pa.schema({"text": pa.large_string()})) as writer:
        writer.write_table(pa.table({"text": text}))
    read = pa.ipc.open_file(pa.py_buffer(sink.getvalue().to_pybytes())).read_all()["text"].chunk(0)
    assert not read.buffers()[2].is_mutable
    for how in HOWS:
        assert all(map(np.array_equal, sets(read, how), sets(text, how)))


@pytest.mark.parametrize("how", HOWS, ids=str)
def test_nothing(how: Shingling) -> None:
    """No documents, and documents without words."""
    for texts in ([], [None], ["", None, "", " "]):
        column = pa.array(texts, pa.large_string())
        assert [part.tolist() for part in hashes(column, how)] == [[], [0] * len(texts)]
        assert [part.tolist() for part in sets(column, how)] == [[], [0] * (len(texts) + 1)]
    none = np.empty(0, np.int64)
    assert jaccard(*sets(pa.array([], pa.large_string()), how), none, none).shape == (0,)
