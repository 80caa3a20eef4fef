"""The streaming index: against datasketch's own queries, in memory and in a real Redis server."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from datasketch import LeanMinHash, MinHashLSH
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gptctl.core.errors import ConflictError, MachineError, UsageError
from gptctl.text.dedup.lsh_index import index, redis_client
from gptctl.text.dedup.lsh_index.index import LshIndex, exact_signatures
from gptctl.text.dedup.minhash import Banding
from tests.text.dedup import redis_server

NUM_PERM, BANDS, ROWS = 16, 4, 3
BANDING = Banding(BANDS, ROWS)


def corpus(seed: int, n: int = 400) -> tuple[list[str], NDArray[np.uint32]]:
    """Documents whose values are drawn from so few that many bands are equal."""
    values = np.random.default_rng(seed).integers(0, 8, (n, NUM_PERM), dtype=np.uint32)
    return [f"é{seed}:{row}" for row in range(n)], values


def one_by_one(keys: list[str], values: NDArray[np.uint32]) -> list[str | None]:
    """Ask and insert with nothing but datasketch's query and insert."""
    lsh = MinHashLSH(num_perm=NUM_PERM, params=(BANDS, ROWS))
    done: dict[str, int] = {}
    answers: list[str | None] = []
    for key, row in zip(keys, values, strict=True):
        sketch = LeanMinHash(seed=1, hashvalues=row, scheme="affine32")
        found = sorted(lsh.query(sketch), key=done.__getitem__)
        answers.append(found[0] if found else None)
        if not found:
            done[key] = len(done)
            lsh.insert(key, sketch)
    return answers


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    """A Redis server of our own, with a password."""
    with redis_server.running() as url:
        yield url


@given(st.integers(0, 2**32), st.lists(st.integers(0, 60), max_size=3))
@settings(deadline=None, max_examples=50)
def test_equals_datasketch(seed: int, cuts: list[int]) -> None:
    """The same answers as one by one, however the documents are spread over calls."""
    keys, values = corpus(seed, 60)
    lsh = LshIndex(NUM_PERM, BANDING)
    bounds = [0, *sorted(cuts), 60]
    answers = [
        answer for low, high in pairwise(bounds) for answer in lsh.first_duplicates(keys[low:high], values[low:high])
    ]
    assert answers == one_by_one(keys, values)


def test_small_steps_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents are exchanged in steps, whose size is not seen."""
    keys, values = corpus(1)
    expected = LshIndex(NUM_PERM, BANDING).first_duplicates(keys, values)
    monkeypatch.setattr(index, "BATCH_DOCUMENTS", 7)
    assert LshIndex(NUM_PERM, BANDING).first_duplicates(keys, values) == expected == one_by_one(keys, values)
    assert 0 < expected.count(None) < len(keys)


def test_redis_equals_memory(redis_url: str) -> None:
    """A server gives what memory gives, and a later run finds the documents of an earlier one."""
    (keys, values), (later, more) = corpus(2), corpus(3)
    expected = one_by_one(keys + later, np.concatenate([values, more]))
    first = LshIndex(NUM_PERM, BANDING, redis_url, "two runs")
    assert first.first_duplicates(keys, values) == expected[: len(keys)]
    second = LshIndex(NUM_PERM, BANDING, redis_url, "two runs")
    answers = second.first_duplicates(later, more)
    assert answers == expected[len(keys) :]
    assert any(answer in keys for answer in answers)
    assert LshIndex(NUM_PERM, BANDING, redis_url, "another").first_duplicates(later, more) == one_by_one(later, more)


def test_a_stopped_run_gives_the_same_again(redis_url: str) -> None:
    """What a run has inserted is no duplicate of itself, also where it was killed halfway through an insertion."""
    import redis

    keys, values = corpus(4)
    expected = one_by_one(keys, values)
    name = "stopped"
    LshIndex(NUM_PERM, BANDING, redis_url, name).first_duplicates(keys[:250], values[:250])
    client = redis.Redis.from_url(redis_url)
    table = b"gptctl:stopped:_bucket_\x00\x02"
    lost = [key for key in client.scan_iter(match="gptctl:stopped:*", count=10_000) if key.startswith(table)]
    assert len(lost) > 10
    client.delete(*lost)
    assert LshIndex(NUM_PERM, BANDING, redis_url, name).first_duplicates(keys, values) == expected
    lengths = [client.hlen(b"gptctl:stopped:_bucket_\x00" + bytes([band])) for band in range(BANDS)]
    assert lengths == [expected.count(None)] * BANDS


def test_no_pickles(redis_url: str) -> None:
    """All keys and values are bands, documents' keys with a number before, or names made of them."""
    import redis

    keys, values = corpus(5)
    answers = LshIndex(NUM_PERM, BANDING, redis_url, "raw", "seed=5").first_duplicates(keys, values)
    stored = {
        number.to_bytes(8, "big") + key.encode()
        for number, key in enumerate(key for key, answer in zip(keys, answers, strict=True) if answer is None)
    }
    bands = {
        row[4 * b : 4 * (b + ROWS)]
        for row in (v.astype(">u4").tobytes() for v in values)
        for b in range(0, BANDS * ROWS, ROWS)
    }
    base = b"gptctl:raw:"
    tables = [base + b"_bucket_\x00" + bytes([band]) for band in range(BANDS)]
    client = redis.Redis.from_url(redis_url)
    names = list(client.scan_iter(match="gptctl:raw:*", count=10_000))
    parts = stored | bands
    assert len(names) > len(stored) * BANDS
    for name in names:
        match client.type(name):
            case b"string":
                assert (name, client.get(name)) == (base + b"settings", b"num_perm=16 bands=4 rows=3 seed=5")
            case b"hash":
                assert name in [*tables, base + b"_keys"]
                for field, value in client.hgetall(name).items():
                    assert field in parts and value == name + field
            case b"set":
                assert name[len(tables[0]) :] in bands and client.smembers(name) <= stored
            case b"list":
                assert name.removeprefix(base + b"_keys") in stored and set(client.lrange(name, 0, -1)) <= bands


def test_other_settings_are_refused(redis_url: str) -> None:
    """Signatures that cannot be compared are not mixed."""
    LshIndex(NUM_PERM, BANDING, redis_url, "settings", "seed=1")
    LshIndex(NUM_PERM, BANDING, redis_url, "settings", "seed=1")
    for num_perm, made_with in ((NUM_PERM, "seed=2"), (32, "seed=1")):
        with pytest.raises(ConflictError, match="other settings: num_perm=16 bands=4 rows=3 seed=1"):
            LshIndex(num_perm, BANDING, redis_url, "settings", made_with)


def test_failures_do_not_show_the_password(redis_url: str, tmp_path: Path) -> None:
    """A wrong password, no server, and what is no URL."""
    wrong = redis_url.replace("se%2Fcret", "hush")
    for url in (wrong, f"unix://:hush@{tmp_path}/none.sock", "redis://me:hush@127.0.0.1:1/0"):
        with pytest.raises(MachineError) as caught:
            LshIndex(NUM_PERM, BANDING, url, "x")
        assert "hush" not in f"{caught.value.message}{caught.value.hint}" and "Redis at" in caught.value.message
        assert caught.value.__suppress_context__ and caught.value.exit_code == 4
    for url in ("http://:hush@host", "redis://:hu/sh@host:1", "redis://host/0?hush=1"):
        with pytest.raises(UsageError) as refused:
            LshIndex(NUM_PERM, BANDING, url, "x")
        assert "hu" not in refused.value.message


def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is given up after two tries: as many connections are in its queue."""
    pytest.importorskip("redis")
    monkeypatch.setattr(redis_client, "ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(MachineError, match=r"Redis at 127\.0\.0\.1:"):
            LshIndex(NUM_PERM, BANDING, f"redis://127.0.0.1:{silent.getsockname()[1]}/0", "x")
        silent.setblocking(False)
        assert [silent.accept()[0].close() for _ in range(2)] == [None, None]
        with pytest.raises(BlockingIOError):
            silent.accept()


def test_a_missing_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint says what to install."""
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MachineError) as caught:
        LshIndex(NUM_PERM, BANDING, "redis://localhost", "x")
    assert caught.value.hint == "pip install 'redis>=5'"


def test_bands_that_do_not_fit() -> None:
    """More rows than permutations."""
    with pytest.raises(UsageError, match="no index of 9 bands of 2 rows"):
        LshIndex(NUM_PERM, Banding(9, 2))


def test_exact_signatures() -> None:
    """Short documents are near-duplicates only if their texts are equal."""
    keys = np.random.default_rng(1).integers(0, 2**64, (50, 2), dtype=np.uint64)
    keys[30:] = keys[:20]
    rows = exact_signatures(keys, 17)
    assert rows.shape == (50, 17) and rows.dtype == np.uint32
    answers = LshIndex(17, Banding(8, 2)).first_duplicates([str(n) for n in range(50)], rows)
    assert answers == [None] * 30 + [str(n) for n in range(20)]
