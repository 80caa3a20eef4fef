"""MinHash equals datasketch's, finds planted copies, and does not depend on what stands beside a document."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptctl.core.errors import UsageError
from gptctl.text.dedup import minhash
from gptctl.text.dedup.minhash import Banding
from gptctl.text.dedup.shingles import Shingling, hashes, jaccard, sets
from tests.text.dedup import plain
from tests.text.filters.golden import texts as real_texts

WORDS = Shingling()
ODD = ["", "too short", "Ünïcödé wörds älso cöunt", "日本語のテキストを短く書きました"]
HOWS = [WORDS, Shingling(24, "chars"), Shingling(3, normalize=False), Shingling(9, "chars", normalize=False)]


@pytest.fixture(scope="module")
def documents() -> pa.LargeStringArray:
    """Real texts, and odd ones between."""
    real = real_texts()[:60].to_pylist()
    return pa.array([*real[:3], *ODD, *real[3:]], pa.large_string())


@pytest.mark.parametrize("how", HOWS, ids=str)
def test_equals_datasketch(documents: pa.LargeStringArray, how: Shingling, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, for any cut of the work."""
    from datasketch import MinHash

    monkeypatch.setattr(minhash, "CHUNK_BYTES", 20_000)
    values, short = minhash.signatures(documents, 64, how, seed=7)
    for row in range(len(documents)):
        found, (count,) = hashes(documents[row : row + 1], how)
        oracle = MinHash(num_perm=64, seed=7, hashfunc=int, scheme="affine32")
        oracle.update_batch((found >> np.uint64(32)).tolist())
        assert values[row].tolist() == oracle.hashvalues.tolist()
        assert bool(short[row]) == (count == 0)
    if how == WORDS:
        assert documents.filter(pa.array(short)).to_pylist() == ODD[:3]


@pytest.mark.parametrize(("num_perm", "seed"), [(1, 0), (112, 1), (1024, 2**32 - 1)])
def test_permutations_equal_datasketch(num_perm: int, seed: int) -> None:
    """Drawn in the same way."""
    from datasketch import MinHash

    expected = MinHash(num_perm=num_perm, seed=seed, scheme="affine32").permutations
    assert np.array_equal(np.stack(minhash.permutations(num_perm, seed)), expected)


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9])
def test_bands_equal_datasketch(threshold: float) -> None:
    """The table of optimal parameters, and equality with the library for others."""
    from datasketch.lsh import _optimal_param

    assert minhash.optimal_banding(threshold, 128) == _optimal_param(threshold, 128, 0.5, 0.5)
    assert minhash.optimal_banding(0.8, 128) == minhash.choose_banding(0.8, 128) == (9, 13)


def test_bands_by_number() -> None:
    """As many rows as there are for each; permutations may be left over."""
    assert minhash.choose_banding(0.8, 112, 14) == (14, 8) and minhash.choose_banding(0.8, 128, 9) == (9, 14)
    assert minhash.choose_banding(0.8, 16, 16) == (16, 1) and minhash.choose_banding(0.8, 16, 1) == (1, 16)


def test_impossible_bands() -> None:
    """One permutation cannot make two bands."""
    with pytest.raises(UsageError):
        minhash.optimal_banding(0.9, 1)
    for count in (0, -1, 17):
        with pytest.raises(UsageError, match="cannot be cut"):
            minhash.choose_banding(0.8, 16, count)


def test_curve() -> None:
    """datatrove's 14 bands of 8 rows: 0.565, 0.924 and 1.000 at 0.7, 0.8 and 0.9."""
    assert minhash.candidate_probability([0, 0.7, 0.8, 0.9, 1], Banding(14, 8)).round(3).tolist() == [
        0,
        0.565,
        0.924,
        1,
        1,
    ]
    assert float(minhash.candidate_probability(0.5, Banding(1, 1))) == 0.5


def test_as_often_as_the_curve_says() -> None:
    """Of 1,000 pairs that share half to all of their 60 words, within four standard deviations."""
    random = np.random.default_rng(5)
    words = [f"w{number}" for number in range(100_000)]
    left, right = [], []
    for pair in range(1000):
        drawn = [words[place] for place in random.choice(len(words), 120, replace=False)]
        changed = pair % 21
        left.append(" ".join(drawn[:60]))
        right.append(" ".join(drawn[changed : 60 + changed]))
    text = pa.array(left + right, pa.large_string())
    how, rows = Shingling(ngram=1), np.arange(1000)
    similarity = jaccard(*sets(text, how), rows, rows + 1000)
    assert (similarity == (60 - rows % 21) / (60 + rows % 21)).all()
    values, _ = minhash.signatures(text, 112, how, 0)
    same = values[:1000] == values[1000:]
    assert abs(same.mean() - similarity.mean()) < 4 * np.sqrt((similarity * (1 - similarity)).sum() / 112) / 1000
    keys = minhash.band_keys(values, Banding(14, 8))
    odds = minhash.candidate_probability(similarity, Banding(14, 8))
    found = (keys[:1000] == keys[1000:]).any(axis=1)
    assert abs(found.sum() - odds.sum()) < 4 * np.sqrt((odds * (1 - odds)).sum())


@pytest.mark.parametrize("how", HOWS, ids=str)
def test_planted_near_duplicates(how: Shingling) -> None:
    """A document with one word changed shares a band with its original, an unrelated one does not."""
    originals = [text for text in real_texts().to_pylist() if 4000 < len(text) < 6000][:20:4]
    copies = [text.replace(text.split()[200], "CHANGED", 1) for text in originals]
    keys = minhash.document_keys(
        pa.array([*originals, *copies], pa.large_string()), 128, how, 0, minhash.optimal_banding(0.8, 128)
    )
    shared = (keys[:, None, :] == keys[None, :, :]).any(axis=2)
    for place, (original, copy) in enumerate(zip(originals, copies, strict=True)):
        assert plain.jaccard(original, copy, how) > 0.9
        assert np.flatnonzero(shared[place]).tolist() == [place, place + 5]


def test_short_documents_match_exactly() -> None:
    """Documents without a shingle share keys only if they are equal."""
    text = pa.array(["one two", "one two", "two one", "", "", "One two"], pa.large_string())
    keys = minhash.document_keys(text, 128, WORDS, 0, Banding(9, 13))
    assert (keys[0] == keys[1]).all() and (keys[3] == keys[4]).all()
    assert len(np.unique(keys)) == 4 * 9


def test_bands_never_meet() -> None:
    """Keys of different bands differ, also where all rows have the same values."""
    keys = minhash.band_keys(np.full((2, 64), 7, np.uint32), Banding(16, 4))
    assert (keys[0] == keys[1]).all() and len(np.unique(keys)) == 16
    keys = minhash.document_keys(real_texts(), 64, WORDS, 0, Banding(16, 4))
    assert len(np.unique(keys)) == sum(len(np.unique(band)) for band in keys.T)


@given(plain.columns, plain.shinglings, st.integers(0, 1))
@settings(max_examples=plain.EXAMPLES, deadline=None)
def test_neighbours_do_not_matter(text: pa.LargeStringArray, how: Shingling, skip: int) -> None:
    """A document's keys are the same alone, in any company and in a slice."""
    text = text[skip:]
    together = minhash.document_keys(text, 16, how, 3, Banding(4, 4))
    for row, document in enumerate(text.to_pylist()):
        alone = minhash.document_keys(pa.array([document or ""], pa.large_string()), 16, how, 3, Banding(4, 4))
        assert together[row].tolist() == alone[0].tolist()


def test_no_documents() -> None:
    """An empty column gives empty results."""
    text = pa.array([], pa.large_string())
    values, short = minhash.signatures(text, 16, WORDS, 0)
    assert values.shape == (0, 16) and short.shape == (0,)
    assert (
        minhash.band_keys(values, Banding(4, 4)).shape
        == minhash.document_keys(text, 16, WORDS, 0, Banding(4, 4)).shape
        == (0, 4)
    )
