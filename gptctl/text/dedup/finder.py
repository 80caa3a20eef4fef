"""The search for duplicates from end to end: the passes in order, on any runner, and what they find."""

from __future__ import annotations

import io
import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.core import atomic
from gptctl.core.context import Context
from gptctl.io import exchange
from gptctl.io.exchange import Runs, of_task
from gptctl.io.inputs import read_task
from gptctl.io.jobs import Runner
from gptctl.io.records import ReadOptions, Task
from gptctl.text.dedup import clusters, passes, survivors
from gptctl.text.dedup.clusters import Clusters, Places
from gptctl.text.dedup.passes import Search
from gptctl.text.dedup.repeats import Repeats
from gptctl.text.dedup.streaming import Index

ROUNDS = 3  # of joining again what was not near its star's centre
SETTLING = 8  # rounds of choosing survivors for what is not near the last one
KEY_BYTES = 16  # of a key and a place
SORTING = 6  # times the keys of a range are held while they are sorted and paired


@dataclass(frozen=True)
class Sources:
    """The shard tasks of the input, numbered behind those of what was there before."""

    reading: ReadOptions
    old: tuple[Task, ...]
    new: Callable[[], Iterator[Task]]

    def all(self) -> Iterator[Task]:
        """Yield the tasks of both, numbered from 0."""
        yield from self.old
        for task in self.new():
            yield replace(task, index=len(self.old) + task.index)


def sign(search: Search, keep: str, reading: ReadOptions, task: Task) -> tuple[int, int, int]:
    """Hash one task's documents, in a worker; gives its number, its documents and its keys."""
    record = search.folder / "signed" / f"{task.index:05d}.json"
    if record.exists():
        found = json.loads(record.read_bytes())
        if found["key"] == task.key() and search.keys.path(task.index).exists():
            return task.index, found["documents"], found["keys"]
    table = read_task(task, reading)[0]
    rank = survivors.ranks(keep, table)
    written = passes.sign(search, task.index, table, rank)
    atomic.write_json(record, {"key": task.key(), "documents": len(table), "keys": written})
    return task.index, len(table), written


def sign_for_index(search: Search, reading: ReadOptions, task: Task) -> tuple[list[str], NDArray[np.uint32]]:
    """Give names and signatures of one task's documents, in a worker. The same input gives the same names."""
    table = read_task(task, reading)[0]
    content = task.key()
    return [f"{content}:{row}" for row in range(len(table))], passes.sign_for_index(search, task.index, table)


def collect(search: Search, reading: ReadOptions, task: Task) -> int:
    """Write the shingles of one task's candidates, in a worker."""
    rows = passes.wanted(search, 1, task.index)
    return passes.collect(search, task.index, rows, read_task(task, reading)[0]) if len(rows) else 0


def mark(repeats: Repeats, reading: ReadOptions, task: Task) -> int:
    """Write the keys of one task's lines or passages, in a worker."""
    return repeats.mark(task.index, read_task(task, reading)[0])


@dataclass
class Finder:
    """Runs the passes of a search in order. `keep`: how survivors are chosen; `memory`: bytes for sorting."""

    search: Search
    keep: str
    memory: int
    sources: Sources
    runner: Runner
    workers: int
    context: Context
    tasks: int = 0

    def each(self, function: Callable[[Any], Any], items: Any) -> Iterator[Any]:
        """Run a pass; a signal stops it between two answers."""
        for answer in self.runner(function, items, self.workers, (__name__, "gptctl.text.kernels.shingles")):
            yield answer
            self.context.stop.check("stopped")

    def parts(self, keys: int) -> int:
        """Say into how many ranges so many keys are cut, for sorting in memory."""
        return max(self.workers, math.ceil(keys * KEY_BYTES * SORTING * self.workers / self.memory))

    def find_repeats(self, repeats: Repeats) -> int:
        """Find the lines or passages that stand before; gives their number."""
        shutil.rmtree(repeats.later.folder, ignore_errors=True)  # of a run that was cut off, maybe in other ranges
        keys = 0
        for number, written in enumerate(self.each(partial(mark, repeats, self.sources.reading), self.sources.all())):
            keys += written
            self.context.progress(number + 1, None, "shards hashed", f"{keys:,} keys")
        return sum(self.each(repeats.find_later, enumerate(exchange.ranges(self.parts(keys)))))

    def find(self) -> tuple[Clusters, dict[str, int]]:
        """Find the clusters of duplicates and who survives; also count what was compared."""
        self.search.forget()
        documents = keys = 0
        signed = partial(sign, self.search, self.keep, self.sources.reading)
        for number, count, written in self.each(signed, self.sources.all()):
            documents, keys = documents + count, keys + written
            self.tasks = number + 1
            self.context.progress(self.tasks, None, "shards hashed", f"{documents:,} documents")
        figures = {"candidates": 0, "false_positives": 0}
        nodes, labels = clusters.connect(self.rounds(keys, figures), self.memory)
        return self.settle(nodes, labels), figures

    def find_streaming(self, index: Index) -> tuple[Clusters, dict[str, int]]:
        """Ask datasketch's index for each document in order, and insert those that have no duplicate.

        What the index finds counts: nothing is compared exactly, and the first document stays.
        """
        self.search.forget()
        known: dict[str, np.uint64] = {}
        leaves: list[np.uint64] = []
        centres: list[np.uint64] = []
        signed = partial(sign_for_index, self.search, self.sources.reading)
        for number, (names, values) in enumerate(self.each(signed, self.sources.all())):
            own = exchange.places(number, np.arange(len(names)))
            for place, name, answer in zip(own, names, index.first_duplicate(names, values), strict=True):
                if answer is None:
                    known[name] = place
                else:
                    leaves.append(place)
                    centres.append(known.get(answer, clusters.ELSEWHERE))
            self.context.progress(number + 1, None, "shards asked for", f"{len(known):,} new documents")
        left, right = np.array(leaves, np.uint64), np.array(centres, np.uint64)
        inside = right != clusters.ELSEWHERE
        nodes, first = clusters.connect([(left[inside], right[inside])], self.memory)
        place = np.concatenate([nodes, left[~inside]])
        order = np.argsort(place)
        survivor = np.concatenate([first, right[~inside]])[order]
        similarity = np.where(place[order] == survivor, 1.0, np.nan)
        first = np.concatenate([first, left[~inside]])[order]
        return Clusters(place[order], first, survivor, similarity), {"candidates": len(left)}

    def settle(self, nodes: Places, labels: Places) -> Clusters:
        """Choose survivors so that each document that goes is near enough to one that stays.

        A cluster is held together by chains, so its ends may be far from its survivor. What is far chooses again among
        itself; what is far after some rounds stays. A document near one that was there before goes for that one.
        """
        survivor, similarity = nodes.copy(), np.ones(len(nodes))
        first_new = np.uint64(of_task(len(self.sources.old))[0])
        for leaves, centres in self.near_pairs():
            again = (centres < first_new) & (leaves >= first_new)
            survivor[np.searchsorted(nodes, leaves[again])] = centres[again]
        waiting = np.flatnonzero((nodes >= first_new) & (survivor == nodes))
        if len(self.sources.old):
            self.measure(nodes, survivor, similarity, np.flatnonzero(survivor != nodes))
        rank = passes.gather(self.search.documents, nodes, ["rank"])["rank"].to_numpy() if len(nodes) else np.empty(0)
        for _ in range(SETTLING):
            if not len(waiting):
                break
            mine = nodes[waiting]
            known, joined = clusters.connect(self.near_pairs(mine), self.memory)
            groups = mine.copy()
            groups[np.searchsorted(mine, known)] = joined
            survivor[waiting] = clusters.choose(mine, groups, rank[waiting])
            self.measure(nodes, survivor, similarity, waiting)
            waiting = waiting[similarity[waiting] < self.search.threshold]  # NaN, not compared, is taken for near
        survivor[waiting], similarity[waiting] = nodes[waiting], 1.0
        return Clusters(nodes, labels, survivor, similarity)

    def near_pairs(self, among: Places | None = None) -> Iterator[tuple[Places, Places]]:
        """Read the pairs that are near enough, of all documents or among some, part by part."""
        for number in self.search.near_ones.numbers():
            table = self.search.near_ones.open(number)
            leaves, centres = table["leaf"].to_numpy(), table["centre"].to_numpy()
            if among is not None:
                inside = passes.is_in(leaves, among) & passes.is_in(centres, among)
                leaves, centres = leaves[inside], centres[inside]
            yield leaves, centres

    def measure(
        self, nodes: Places, survivor: Places, similarity: NDArray[np.float64], rows: NDArray[np.int64]
    ) -> None:
        """Fill in the similarity of some documents to their survivors."""
        runs = Runs(self.search.folder / "survivors")
        runs.write(0, {"place": nodes[rows], "survivor": survivor[rows]})
        parts = [table["similarity"].to_numpy() for table in self.compared(passes.GivenPairs(runs))]
        similarity[rows] = np.concatenate(parts)

    def rounds(self, keys: int, figures: dict[str, int]) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.uint64]]]:
        """Yield pairs of documents that are near enough, in parts."""
        left: Path | None = None
        parts, written = self.parts(keys), 0
        for number in range(1, ROUNDS + 1):
            join = partial(passes.join, self.search, number, left)
            sum(self.each(join, enumerate(exchange.ranges(parts))))
            if number == 1 and self.search.near and self.search.verify:
                sum(self.each(partial(collect, self.search, self.sources.reading), self.sources.all()))
            missed: list[NDArray[np.uint64]] = []
            for table in self.compared(passes.StarPairs(self.search.stars(number))):
                leaves, centres, similarity = (table[name].to_numpy() for name in ("leaf", "centre", "similarity"))
                figures["candidates"] += len(leaves)
                near = ~(similarity < self.search.threshold)  # NaN: not compared
                figures["false_positives"] += int((~near).sum())
                missed.append(np.setdiff1d(leaves[~near], leaves[near]))
                self.search.near_ones.write(written, {"leaf": leaves[near], "centre": centres[near]})
                written += 1
                yield leaves[near], centres[near]
            again = np.unique(np.concatenate(missed)) if missed else np.empty(0, np.uint64)
            if len(again) < 2:
                return
            left = self.search.folder / f"left-{number}.npy"
            atomic.write_bytes(left, stream_of(again))

    def compared(self, pairs: passes.Pairs) -> Iterator[pa.Table]:
        """Compare pairs, range by range of their first documents."""
        parts = max(1, min(self.tasks, 4 * self.workers))
        bounds = [of_task(self.tasks * number // parts)[0] for number in range(parts + 1)]
        yield from self.each(partial(passes.compare, self.search, pairs), pairwise(bounds))


def stream_of(values: NDArray[np.uint64]) -> bytes:
    """Give an array in numpy's format."""
    sink = io.BytesIO()
    np.save(sink, values, allow_pickle=False)
    return sink.getvalue()
