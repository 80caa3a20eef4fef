"""Finding near-duplicates in passes over shard tasks, with sorted runs on disk between them.

1. `sign`: each document's exact key and band keys, with its place; and what is needed to choose a survivor.
2. `join`: for a range of keys, the documents that share one: each is paired with the first of them (a star, never all
   pairs).
3. `collect`: for a task, the shingles of its documents that stand in a pair.
4. `compare`: for the pairs of a range of places, their exact Jaccard similarity.

Documents of a star whose similarity to its centre is too low may be near each other: they are joined again without it,
also where they are near the centre of another star.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gptctl.pipeline.document_cache import DocumentCache
from gptctl.pipeline.sorted_runs import ROW_BITS, SortedRuns, distinct, of_task, places
from gptctl.text.dedup import exact, minhash, shingles
from gptctl.text.dedup.clusters import starts
from gptctl.text.dedup.shingles import Shingling


@dataclass(frozen=True)
class Search:
    """How near-duplicates are looked for, the folder of the runs, and what is kept of the documents meanwhile."""

    folder: Path
    near: bool
    normalized: bool
    how: Shingling
    threshold: float
    num_perm: int
    cut: tuple[int, int]
    seed: int
    verify: bool
    kept: DocumentCache = field(default_factory=DocumentCache)

    def forget(self) -> None:
        """Remove what a run that was cut off left behind the first pass: its ranges may have been others."""
        for entry in sorted(self.folder.glob("*")):
            if entry.name not in ("keys", "documents", "signed", "kept"):
                shutil.rmtree(entry, ignore_errors=True)
                entry.unlink(missing_ok=True)

    def keep_first(self, tasks: int) -> None:
        """Remove what is left of a run that was cut off and read more tasks than there are: another stream."""
        for runs in (self.keys, self.documents):
            runs.keep_first(tasks)

    def bytes(self) -> int:
        """Sum what stands on disk for each document and each candidate."""
        return self.keys.bytes() + self.documents.bytes() + self.sets.bytes()

    @property
    def keys(self) -> SortedRuns:
        """Band keys and exact keys: `key`, `place`."""
        return SortedRuns(self.folder / "keys")

    @property
    def documents(self) -> SortedRuns:
        """Each document's `place`, exact key (`high`, `low`), `length` in bytes, `rank` and `id`."""
        return SortedRuns(self.folder / "documents")

    def stars(self, round_number: int) -> SortedRuns:
        """Pairs of documents that share a key: `leaf`, `centre`."""
        return SortedRuns(self.folder / f"stars-{round_number}")

    def members(self, round_number: int) -> SortedRuns:
        """The documents that stand in a pair: `place`."""
        return SortedRuns(self.folder / f"members-{round_number}")

    @property
    def near_ones(self) -> SortedRuns:
        """Pairs of documents that are near enough: `leaf`, `centre`."""
        return SortedRuns(self.folder / "near")

    @property
    def sets(self) -> SortedRuns:
        """Shingles of documents that stand in a pair: `place`, `shingles`."""
        return SortedRuns(self.folder / "sets")


def sign(search: Search, number: int, table: pa.Table, rank: NDArray[np.float64]) -> int:
    """Write the keys of a task's documents; gives the number of keys."""
    text = table["text"].combine_chunks()
    same = describe(search, number, table, rank)
    columns = [same[:, 0] ^ same[:, 1] * minhash.MULTIPLIER]
    if search.near:
        found = minhash.document_keys(text, search.num_perm, search.how, search.seed, *search.cut)
        columns += list(found.T)
    where = np.tile(places(number, np.arange(len(table))), len(columns))
    return search.keys.write(number, {"key": np.concatenate(columns), "place": where})


def describe(search: Search, number: int, table: pa.Table, rank: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Write what must be known of each document later; gives the exact keys, shape (n, 2)."""
    text = table["text"].combine_chunks()
    same = exact.normalized_keys(text) if search.normalized else exact.keys(text)
    facts = {
        "place": places(number, np.arange(len(table))),
        "high": same[:, 0].copy(),
        "low": same[:, 1].copy(),
        "length": pc.binary_length(text).cast(pa.int64()),
        "rank": rank,
        "id": table["id"].combine_chunks().cast(pa.large_string()),
    }
    search.documents.write(number, facts)
    return same


def join(search: Search, round_number: int, left: Path | None, part: tuple[int, tuple[int, int]]) -> int:
    """Pair the documents that share a key of a range with the first that has it; gives the number of pairs.

    `left` names a file with the sorted places of the documents that are looked at; None: all.
    """
    number, (low, high) = part
    found = search.keys.between(low, high)
    leaves = centres = np.empty(0, np.uint64)
    if found is not None:
        keys, where = found["key"].to_numpy(), found["place"].to_numpy()
        if left is not None:
            open_ones = np.load(left, mmap_mode="r", allow_pickle=False)
            chosen = is_in(where, open_ones)
            keys, where = keys[chosen], where[chosen]
        leaves, centres = stars(keys, where)
    search.members(round_number).write(number, {"place": distinct(np.concatenate([leaves, centres]))})
    return search.stars(round_number).write(number, {"leaf": leaves, "centre": centres})


def stars(keys: NDArray[np.uint64], where: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Pair each place with the smallest that has the same key: sorted, each pair once."""
    order = np.lexsort((where, keys))
    keys, where = keys[order], where[order]
    begins = starts(keys)
    centres = where[np.flatnonzero(begins)][np.cumsum(begins) - 1] if len(keys) else where
    leaves = ~begins & (centres != where)
    return unique_pairs(where[leaves], centres[leaves])


def unique_pairs(
    first: NDArray[np.uint64], second: NDArray[np.uint64]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Sort pairs, and keep each once."""
    order = np.lexsort((second, first))
    first, second = first[order], second[order]
    new = starts(first) | starts(second)
    return first[new], second[new]


def is_in(values: NDArray[np.uint64], ordered: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Tell which values stand in a sorted array."""
    if not len(ordered):
        return np.zeros(len(values), np.bool_)
    found = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return np.asarray(ordered[found] == values)


def wanted(search: Search, round_number: int, number: int) -> NDArray[np.int64]:
    """Return the rows of a task that stand in a pair of a round, sorted."""
    found = search.members(round_number).between(*of_task(number))
    if found is None:
        return np.empty(0, np.int64)
    return (distinct(found["place"].to_numpy()) & np.uint64(2**ROW_BITS - 1)).astype(np.int64)


def collect(search: Search, number: int, rows: NDArray[np.int64], table: pa.Table) -> int:
    """Write the shingles of some of a task's documents; gives the number of documents."""
    text = table["text"].combine_chunks().take(pa.array(rows))
    values, offsets = shingles.sets(text, search.how)
    lists = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))
    return search.sets.write(number, {"place": places(number, rows), "shingles": lists})


def compare(search: Search, pairs: SortedRuns, text_bytes: int, part: tuple[int, int]) -> pa.Table:
    """Return the pairs whose first place lies in a range, with their similarity: `leaf`, `centre`, `similarity`.

    Each stands there once, sorted, however often it stands in the runs. Documents with equal exact keys have similarity
    1, also where they are too short for a shingle; others that share a key by chance, 0. Without `verify` near ones
    have NaN. `text_bytes`: text of the pairs whose shingles, 64 bits each, are in memory at once.
    """
    leaves, centres, similarity = np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0)
    found = pairs.between(*part)
    if found is not None:
        leaves, centres = unique_pairs(found.column(0).to_numpy(), found.column(1).to_numpy())
        same, length = exact_facts(search, leaves, centres)
        similarity = np.where(same, 1.0, np.nan if search.near else 0.0)
        rows = np.flatnonzero(~same) if search.near and search.verify else np.empty(0, np.int64)
        share = np.cumsum(length[rows]) // text_bytes
        for chosen in np.split(rows, np.flatnonzero(np.diff(share)) + 1):
            if len(chosen):
                similarity[chosen] = similarities(search, leaves[chosen], centres[chosen])
    return pa.table({"leaf": leaves, "centre": centres, "similarity": similarity})


def exact_facts(
    search: Search, left: NDArray[np.uint64], right: NDArray[np.uint64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Tell which pairs have equal exact keys, and how many bytes of text both have together."""
    involved = distinct(np.concatenate([left, right]))
    one, other = np.searchsorted(involved, left), np.searchsorted(involved, right)
    facts = gather(search.documents, involved, ["high", "low", "length"])
    high, low, length = (facts[name].to_numpy() for name in ("high", "low", "length"))
    return (high[one] == high[other]) & (low[one] == low[other]), length[one] + length[other]


def similarities(search: Search, left: NDArray[np.uint64], right: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return the exact similarity of pairs of places."""
    involved = distinct(np.concatenate([left, right]))
    lists = gather(search.sets, involved, ["shingles"])["shingles"].combine_chunks()
    values, offsets = lists.values.to_numpy(), lists.offsets.to_numpy()
    one, other = np.searchsorted(involved, left), np.searchsorted(involved, right)
    return shingles.jaccard(values, offsets, one, other)


def gather(runs: SortedRuns, where: NDArray[np.uint64], columns: list[str]) -> pa.Table:
    """Return the rows of some places, at least one, sorted, from the runs of their tasks."""
    tasks = (where >> np.uint64(ROW_BITS)).astype(np.int64)
    parts = []
    for mine in np.split(where, np.flatnonzero(np.diff(tasks)) + 1):
        table = runs.open(int(mine[0]) >> ROW_BITS)
        rows = np.searchsorted(table.column(0).to_numpy(), mine)
        parts.append(table.select(columns).take(pa.array(rows)))
    return pa.concat_tables(parts)
