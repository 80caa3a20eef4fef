"""MinHash equals datasketch's, finds planted copies, and does not depend on what stands beside a document."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptctl.core.errors import UsageError
from gptctl.text.dedup import exact, minhash


@pytest.fixture(scope="module")
def documents() -> list[str]:
    """Real text: the first 5,000 characters of modules in Python's library, and odd ones between."""
    folder = Path(sysconfig.get_path("stdlib"))
    sources = [path.read_text(encoding="utf-8")[:5000] for path in sorted(folder.glob("*.py"))[:40]]
    return [*sources[:3], "", "too short", *sources[3:], "Ünïcödé wörds älso cöunt", "日本語のテキストです"]


def test_equals_datasketch(documents: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, for any cut of the work."""
    from datasketch import MinHash

    monkeypatch.setattr(minhash, "CHUNK_BYTES", 20_000)
    monkeypatch.setattr(minhash, "CHUNK_SHINGLES", 3000)
    text = pa.array(documents, pa.large_string())
    values, short = minhash.signatures(text, 64, 5, seed=7)
    for row, document in enumerate(documents):
        hashes, (count,) = minhash.shingle_hashes(pa.array([document], pa.large_string()), 5)
        oracle = MinHash(num_perm=64, seed=7, hashfunc=int, scheme="affine32")
        oracle.update_batch(hashes.tolist())
        assert values[row].tolist() == oracle.hashvalues.tolist()
        assert bool(short[row]) == (count == 0)
    assert [documents[row] for row in np.flatnonzero(short)] == ["", "too short", "Ünïcödé wörds älso cöunt"]


def test_words() -> None:
    """Lower case, letters and digits; scripts without spaces are cut into characters."""
    texts = ["Hello, WORLD-2!", "", " .. ", "日本 go", None]
    expected = [["hello", "world", "2"], [], [], ["日", "本", "go"], []]
    assert minhash.split_words(pa.array(texts, pa.large_string())).to_pylist() == expected


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9])
def test_bands_equal_datasketch(threshold: float) -> None:
    """The table of optimal parameters, and equality with the library for others."""
    from datasketch.lsh import _optimal_param

    assert minhash.bands(threshold, 128) == _optimal_param(threshold, 128, 0.5, 0.5)
    assert minhash.bands(0.8, 128) == (9, 13)


def test_impossible_bands() -> None:
    """One permutation cannot make two bands."""
    with pytest.raises(UsageError):
        minhash.bands(0.9, 1)


def test_planted_near_duplicates(documents: list[str]) -> None:
    """A document with one word changed shares a band with its original, an unrelated one does not."""
    originals = [text for text in documents if len(text) == 5000][:3]
    copies = [text.replace(text.split()[10], "CHANGED", 1) for text in originals]
    text = pa.array([*originals, *copies], pa.large_string())
    bands, rows = minhash.bands(0.8, 128)
    keys = minhash.document_keys(text, 128, 5, 0, bands, rows)
    shared = (keys[:, None, :] == keys[None, :, :]).any(axis=2)
    for place, (original, copy) in enumerate(zip(originals, copies, strict=True)):
        assert minhash.jaccard(original, copy, 5) > 0.9
        assert np.flatnonzero(shared[place]).tolist() == [place, place + 3]


def test_short_documents_match_exactly() -> None:
    """Documents without an n-gram share keys only if they are equal."""
    text = pa.array(["one two", "one two", "two one", "", ""], pa.large_string())
    keys = minhash.document_keys(text, 128, 5, 0, 9, 13)
    assert (keys[0] == keys[1]).all() and (keys[3] == keys[4]).all()
    assert not (keys[0] == keys[2]).any() and not (keys[0] == keys[3]).any()
    assert keys[0, 0] == exact.keys(text)[0, 0]


@given(st.lists(st.text("ab cé日", max_size=40), min_size=1, max_size=8), st.randoms())
@settings(max_examples=100, deadline=None)
def test_neighbours_do_not_matter(texts: list[str], random: object) -> None:
    """A document's keys are the same alone, in any company and in a slice."""
    text = pa.array(["padding text here", *texts], pa.large_string()).slice(1)
    together = minhash.document_keys(text, 16, 2, 3, 4, 4)
    for row in range(len(texts)):
        alone = minhash.document_keys(pa.array([texts[row]], pa.large_string()), 16, 2, 3, 4, 4)
        assert together[row].tolist() == alone[0].tolist()


def test_no_documents() -> None:
    """An empty column gives empty results."""
    values, short = minhash.signatures(pa.array([], pa.large_string()), 16, 5, 0)
    assert values.shape == (0, 16) and short.shape == (0,)
    assert minhash.band_keys(values, 4, 4).shape == (0, 4)


def test_jaccard() -> None:
    """Shares of n-grams by hand."""
    assert minhash.jaccard("a b c d", "a b c e", 2) == pytest.approx(2 / 4)
    assert minhash.jaccard("A, b!", "a b", 2) == 1.0
    assert minhash.jaccard("a", "a", 2) == 0.0
