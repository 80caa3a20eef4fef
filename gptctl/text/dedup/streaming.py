"""Near-duplicates of a stream: documents are asked for, and inserted, one after the other in datasketch's MinHashLSH.

The index is in memory, or in Redis, where a later run finds the documents of earlier ones. In Redis stand bands of
signatures and documents' keys as plain bytes: nothing is pickled, and nothing is unpickled.

With 14 bands, a document that stays takes 7.5 kB in memory and as much in Redis. One core inserts 13,000 documents a
second in memory, and 2,200 in a Redis server on the same machine.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptctl.core.errors import ConflictError, MachineError, UsageError

# Documents per exchange with Redis: one by one, they wait for the network some 40 times each.
STEP = 1000
# A server that does not answer is given up after two tries of these. A step takes it 0.5 s.
CONNECT_SECONDS, ANSWER_SECONDS = 5, 20
HINT = "check redis=URL and that a server runs there: redis-cli ping; what finished stays, run the same command again"


class Index:
    """An index of signatures: bands of rows, as `gptctl.text.dedup.minhash.bands` gives for a threshold.

    `redis_url`: redis://, rediss:// or unix://; None: in memory. `name` sets indexes in one Redis apart. `made_with`
    says how signatures are made (seed, shingles, ...): an index made with other settings is refused.

    Raises UsageError (2) for bands that do not fit and for what is no URL, MachineError (4) where the package `redis`
    or the server is missing, ConflictError (5) for an index of the same name with other settings. The URL's user and
    password are in no message.
    """

    def __init__(
        self, num_perm: int, bands: int, rows: int, redis_url: str | None = None, name: str = "", made_with: str = ""
    ) -> None:
        from datasketch import MinHashLSH

        pool = None if redis_url is None else _connections(redis_url)
        self._reports = _Reports((), "memory", "") if pool is None else _Reports.of(pool)
        base = f"gptctl:{name}:".encode()
        redis_storage = {"type": "redis", "basename": base, "redis": {"connection_pool": pool}}
        storage = {"type": "dict"} if pool is None else redis_storage
        try:
            self._lsh: Any = MinHashLSH(
                num_perm=num_perm, params=(bands, rows), storage_config=storage, prepickle=False
            )
        except ValueError as error:
            raise UsageError(f"no index of {bands} bands of {rows} rows: {error}", "raise num_perm") from error
        if pool is not None:
            with self._reports.failures():
                _agree(pool, base + b"settings", f"{num_perm=} {bands=} {rows=} {made_with}".encode(), name)

    def first_duplicate(self, keys: Sequence[str], signatures: NDArray[np.uint32]) -> list[str | None]:
        """Return for each document, in order, the key of an earlier near-duplicate, or None and insert it.

        `keys`: unique among the documents of a run, and the same when it is run again. `signatures`: shape
        (n, num_perm), of `gptctl.text.dedup.minhash.signatures`, where a short document's row comes from `exact_rows`.

        Documents with an equal band are near-duplicates. Of several, the one inserted first counts, so that the answer
        depends on the order of documents alone. A document that an earlier call has inserted is not its own duplicate:
        a run that was stopped gives the same answers again. Two runs that fill one index at the same time may each
        keep a document of the same group.
        """
        with self._reports.failures():
            return [
                answer
                for first in range(0, len(keys), STEP)
                for answer in self._step(keys[first : first + STEP], signatures[first : first + STEP])
            ]

    def _step(self, keys: Sequence[str], signatures: NDArray[np.uint32]) -> list[str | None]:
        bands = self._bands(signatures)
        found = self._candidates(bands)
        # A document is inserted only if it shares no band with another: a band of this step is that of one document.
        fresh: dict[tuple[int, bytes], bytes] = {}
        missing: list[tuple[bytes, int]] = []
        known = len(self._lsh.keys)
        answers: list[str | None] = []
        for row, key in enumerate(keys):
            own = list(enumerate(band[row] for band in bands))
            found[row].update(fresh[band] for band in own if band in fresh)
            # The first inserted sorts first.
            first = min(found[row]) if found[row] else struct.pack(">Q", known + len(missing)) + key.encode()
            answers.append(None if first[8:].decode() == key else first[8:].decode())
            # Where a run was killed while it inserted a document, some bands lack it.
            if answers[-1] is None and found[row][first] < len(bands):
                missing.append((first, row))
                fresh.update(dict.fromkeys(own, first))
        self._insert(missing, signatures)
        return answers

    def _bands(self, signatures: NDArray[np.uint32]) -> list[list[bytes]]:
        """Return the bands of all documents, band by band, as datasketch stores them: big-endian numbers."""
        return [[row.tobytes() for row in signatures[:, low:high].astype(">u4")] for low, high in self._lsh.hashranges]

    def _candidates(self, bands: list[list[bytes]]) -> list[Counter[bytes]]:
        """Return what is stored with the bands of each document, and in how many of them."""
        found = [Counter[bytes]() for _ in bands[0]]
        for table, values in zip(self._lsh.hashtables, bands, strict=True):
            for candidates, members in zip(found, table.getmany(*values), strict=True):
                candidates.update(members)
        return found

    def _insert(self, documents: list[tuple[bytes, int]], signatures: NDArray[np.uint32]) -> None:
        from datasketch import LeanMinHash

        with self._lsh.insertion_session() as session:
            for key, row in documents:
                sketch = LeanMinHash(seed=0, hashvalues=signatures[row], scheme="affine32")
                session.insert(key, sketch, check_duplication=False)


def exact_rows(keys: NDArray[np.uint64], num_perm: int) -> NDArray[np.uint32]:
    """Return signatures (n, num_perm) for documents too short for a shingle, from their exact keys (n, 2).

    Equal texts have equal ones; different texts differ in each band, of one row with odds of 1 - 2**-32.
    """
    halves = np.ascontiguousarray(keys).view(np.uint32)
    return np.tile(halves, -(-num_perm // halves.shape[1]))[:, :num_perm]


class _Reports:
    """Turns what Redis raises into errors that name the server, without its password."""

    def __init__(self, kinds: tuple[type[Exception], ...], server: str, password: str) -> None:
        self.kinds, self.server, self.password = kinds, server, password

    @classmethod
    def of(cls, pool: Any) -> _Reports:
        """Name the server that connections go to."""
        import redis

        known = pool.connection_kwargs
        place = known.get("path") or f"{known.get('host', 'localhost')}:{known.get('port', 6379)}"
        return cls((redis.RedisError, OSError), f"{place}/{known.get('db', 0)}", known.get("password") or "")

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Raise MachineError for what Redis raises."""
        try:
            yield
        except self.kinds as error:
            reason = str(error).replace(self.password, "***") if self.password else str(error)
            # The cause is left out: a traceback could show the URL.
            raise MachineError(f"Redis at {self.server} failed: {reason}", HINT) from None


def _connections(url: str) -> Any:
    """Return a pool of connections that all tables of an index share."""
    try:
        import redis
    except ImportError as error:
        raise MachineError("the package redis is missing", "pip install 'gptctl[redis]'") from error
    from redis.backoff import ConstantBackoff
    from redis.retry import Retry

    try:
        pool = redis.ConnectionPool.from_url(
            url,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            retry=Retry(ConstantBackoff(1), 1),
        )
        pool.connection_class(**pool.connection_kwargs)
    except (ValueError, TypeError):
        # The reason given would show parts of a password that has a slash in it.
        raise UsageError(
            "this is no URL of a Redis server", "write it like redis://HOST:6379/0 or unix:///PATH"
        ) from None
    pool.connection_kwargs["decode_responses"] = False
    return pool


def _agree(pool: Any, key: bytes, settings: bytes, name: str) -> None:
    """Note an index's settings in Redis, or compare them with those noted."""
    import redis

    client: Any = redis.Redis(connection_pool=pool)
    client.set(key, settings, nx=True)
    noted = client.get(key)
    if noted != settings:
        message = f"the index '{name}' in Redis was made with other settings: {noted.decode(errors='replace')}"
        raise ConflictError(message, "use the same settings, or another name")
