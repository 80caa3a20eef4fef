"""An index of MinHash signatures, datasketch's MinHashLSH, which documents query and join one after the other.

The index is in memory, or in Redis, where a later run finds the documents of earlier ones. Redis stores bands of
signatures and keys of documents as plain bytes. Nothing is pickled or unpickled.

With 14 bands, a document that is kept takes 7.5 kB, in memory or in Redis. One core inserts 13,000 documents a second
in memory, and 2,200 in a Redis server on the same machine.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptctl.core.errors import UsageError
from gptctl.text.dedup.lsh_index.redis_client import RedisClient
from gptctl.text.dedup.minhash import Banding

# Documents per exchange with Redis. One at a time, each would wait for the network some 40 times.
BATCH_DOCUMENTS = 1000


class LshIndex:
    """An index of signatures, cut into bands.

    Without `redis_url` (redis://, rediss:// or unix://) it is in memory. `name` distinguishes indexes in one Redis.
    `signature_settings` says how signatures are computed (seed, shingles, ...): an index of others is refused.

    Raises UsageError (2) for bands that do not fit `num_perm` and for an invalid URL, MachineError (4) if the package
    `redis` or the server is missing, ConflictError (5) if an index of the same name has other settings. No message
    contains the user or the password of the URL.
    """

    def __init__(
        self,
        num_perm: int,
        banding: Banding,
        redis_url: str | None = None,
        name: str = "",
        signature_settings: str = "",
    ) -> None:
        from datasketch import MinHashLSH

        self._redis = None if redis_url is None else RedisClient.connect(redis_url)
        storage: dict[str, Any] = {"type": "dict"}
        prefix = f"gptctl:{name}:".encode()
        if self._redis:
            storage = {"type": "redis", "basename": prefix, "redis": {"connection_pool": self._redis.pool}}
        bands, rows = banding
        try:
            self._lsh: Any = MinHashLSH(
                num_perm=num_perm, params=(bands, rows), storage_config=storage, prepickle=False
            )
        except ValueError as error:
            raise UsageError(f"no index of {bands} bands of {rows} rows: {error}", "raise num_perm") from error
        if self._redis:
            settings = f"{num_perm=} {bands=} {rows=} {signature_settings}".encode()
            with self._redis.translate_errors():
                self._redis.check_settings(prefix + b"settings", settings, name)

    def first_duplicates(self, keys: Sequence[str], signatures: NDArray[np.uint32]) -> list[str | None]:
        """Return for each document, in order, the key of an earlier near-duplicate, or None after inserting it.

        `keys` are unique among the documents of a run, and the same when it is run again. `signatures`, shape
        (n, num_perm), are those of `gptctl.text.dedup.minhash.signatures`, except that the row of a short document
        comes from `exact_signatures`.

        Documents with an equal band are near-duplicates. Of several, the one that was inserted first is returned, so
        that the result depends on the order of documents alone. A document that an earlier call has inserted is not its
        own duplicate, so a run that was stopped gets the same results again. Two runs that fill one index at the same
        time may each keep a document of the same cluster.
        """
        with self._redis.translate_errors() if self._redis else nullcontext():
            return [
                found
                for start in range(0, len(keys), BATCH_DOCUMENTS)
                for found in self._query_and_insert(
                    keys[start : start + BATCH_DOCUMENTS], signatures[start : start + BATCH_DOCUMENTS]
                )
            ]

    def _query_and_insert(self, keys: Sequence[str], signatures: NDArray[np.uint32]) -> list[str | None]:
        """Process one batch."""
        bands = self._bands(signatures)
        matches = self._matches(bands)
        # A document is inserted only if it shares no band with another, so each band of a batch has one document.
        inserted: dict[tuple[int, bytes], bytes] = {}
        missing: list[tuple[bytes, int]] = []
        size = len(self._lsh.keys)
        results: list[str | None] = []
        for row, key in enumerate(keys):
            own_bands = list(enumerate(band[row] for band in bands))
            matches[row].update(inserted[band] for band in own_bands if band in inserted)
            # Stored keys begin with the number of insertions before, so the first inserted sorts first.
            first = min(matches[row]) if matches[row] else struct.pack(">Q", size + len(missing)) + key.encode()
            results.append(None if first[8:].decode() == key else first[8:].decode())
            # If a run was killed while it inserted a document, some bands lack it.
            if results[-1] is None and matches[row][first] < len(bands):
                missing.append((first, row))
                inserted.update(dict.fromkeys(own_bands, first))
        self._insert(missing, signatures)
        return results

    def _bands(self, signatures: NDArray[np.uint32]) -> list[list[bytes]]:
        """Return the bands of all documents, band by band, as datasketch stores them: big-endian numbers."""
        return [[row.tobytes() for row in signatures[:, low:high].astype(">u4")] for low, high in self._lsh.hashranges]

    def _matches(self, bands: list[list[bytes]]) -> list[Counter[bytes]]:
        """Return for each document the stored keys that share a band with it, and how many bands they share."""
        matches = [Counter[bytes]() for _ in bands[0]]
        for table, values in zip(self._lsh.hashtables, bands, strict=True):
            for found, members in zip(matches, table.getmany(*values), strict=True):
                found.update(members)
        return matches

    def _insert(self, documents: list[tuple[bytes, int]], signatures: NDArray[np.uint32]) -> None:
        from datasketch import LeanMinHash

        with self._lsh.insertion_session() as session:
            for key, row in documents:
                sketch = LeanMinHash(seed=0, hashvalues=signatures[row], scheme="affine32")
                session.insert(key, sketch, check_duplication=False)


def exact_signatures(exact_keys: NDArray[np.uint64], num_perm: int) -> NDArray[np.uint32]:
    """Return signatures (n, num_perm) of documents too short for a shingle, from their exact keys (n, 2).

    Equal texts have equal signatures. Different texts differ in each band; in a band of one row, with a probability of
    1 - 2**-32.
    """
    halves = np.ascontiguousarray(exact_keys).view(np.uint32)
    return np.tile(halves, -(-num_perm // halves.shape[1]))[:, :num_perm]
