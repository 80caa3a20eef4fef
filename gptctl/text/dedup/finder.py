"""The search for duplicates from end to end: the passes in order, on any executor, and what they find."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.core import atomic
from gptctl.io.dataset import checked_json
from gptctl.io.input.inputs import read_task
from gptctl.io.input.records import ReadOptions, Task
from gptctl.pipeline import sorted_runs
from gptctl.pipeline.sorted_runs import SortedRuns, distinct
from gptctl.text.dedup import clusters, passes, survivors
from gptctl.text.dedup.clusters import Clusters, Places
from gptctl.text.dedup.passes import Search
from gptctl.text.dedup.worker_pool import Crew, Sources

ROUNDS = 3  # of joining again what was not near its star's centre
SETTLING = 8  # rounds of choosing survivors for what is not near the last one
KEY_BYTES = 16  # on disk for each key and its place
DOCUMENT_BYTES = 48  # on disk for each document besides its keys and its id
SORTING_BYTES = 6 * KEY_BYTES  # for each key of a range, while they are sorted and paired
PAIR_BYTES = 160  # for each pair of a range, while what is known of its documents is looked up
TEXT_BYTES = 64 * 2**20  # of the pairs compared at once, at most; their shingles take up to four times as much


def sign(search: Search, keep: str, reading: ReadOptions, task: Task) -> tuple[int, int, int]:
    """Hash one task's documents, in a worker; gives the number of documents, unreadable records and keys."""
    record = search.folder / "signed" / f"{task.index:05d}.json"
    noted = checked_json.read(record)
    if noted and noted["key"] == task.key() and search.keys.path(task.index).exists():
        return noted["documents"], noted["unreadable"], noted["keys"]
    table, bad = read_task(task, reading)
    rank = survivors.ranks(keep, table)
    search.kept.keep(task, table, bad)
    written = passes.sign(search, task.index, table, rank)
    noted = {"key": task.key(), "documents": len(table), "unreadable": len(bad), "keys": written}
    checked_json.write(record, noted, flush="none")
    return len(table), len(bad), written


def collect(search: Search, reading: ReadOptions, task: Task) -> int:
    """Write the shingles of one task's candidates, in a worker."""
    rows = passes.wanted(search, 1, task.index)
    return passes.collect(search, task.index, rows, search.kept.read(task, reading)[0]) if len(rows) else 0


@dataclass
class Finder:
    """SortedRuns the passes of a search in order. `keep`: how survivors are chosen."""

    search: Search
    keep: str
    sources: Sources
    crew: Crew
    counts: list[int] = field(default_factory=list)  # of the documents of each task

    def find(self) -> tuple[Clusters, dict[str, int]]:
        """Find the clusters of duplicates and who survives; also count what was compared."""
        self.search.forget()
        documents, keys, unreadable, old = 0, 0, 0, len(self.sources.old)
        for count, bad, written in self.crew.each(
            partial(sign, self.search, self.keep, self.sources.reading), self.sources.all()
        ):
            unreadable += bad if len(self.counts) < old else 0
            self.counts.append(count)
            documents, keys = documents + count, keys + written
            self.crew.context.progress(len(self.counts), None, "shards hashed", f"{documents:,} documents")
        self.search.keep_first(len(self.counts))
        self.sources.check_old(sum(self.counts[:old]), unreadable)
        figures = {"candidates": 0, **({"false_positives": 0} if self.search.verify else {})}
        nodes, labels = clusters.connect(self.rounds(keys, figures), documents, self.crew.memory)
        figures["disk_bytes"] = self.search.bytes()
        return self.settle(nodes, labels), figures

    def rounds(self, keys: int, figures: dict[str, int]) -> Iterator[tuple[Places, Places]]:
        """Yield pairs of documents that are near enough, in parts."""
        left: Path | None = None
        parts, written = self.crew.parts(keys, SORTING_BYTES), 0
        for number in range(1, ROUNDS + 1):
            join = partial(passes.join, self.search, number, left)
            pairs = sum(self.crew.each(join, enumerate(sorted_runs.ranges(parts))))
            if number == 1 and self.search.near and self.search.verify:
                sum(self.crew.each(partial(collect, self.search, self.sources.reading), self.sources.all()))
            missed = [np.empty(0, np.uint64)]
            for table in self.compared(self.search.stars(number), pairs):
                leaves, centres, similarity = (table[name].to_numpy() for name in ("leaf", "centre", "similarity"))
                figures["candidates"] += len(leaves)
                near = ~(similarity < self.search.threshold)  # NaN: not compared
                if self.search.verify:
                    figures["false_positives"] += int((~near).sum())
                missed.append(distinct(leaves[~near]))
                self.search.near_ones.write(written, {"leaf": leaves[near], "centre": centres[near]})
                written += 1
                yield leaves[near], centres[near]
            again = np.concatenate(missed)  # sorted: the parts are ranges of leaves
            if len(again) < 2:
                return
            left = self.search.folder / f"left-{number}.npy"
            atomic.write_bytes(left, stream_of(again), flush="none")

    def compared(self, pairs: SortedRuns, count: int) -> Iterator[pa.Table]:
        """Compare about `count` pairs, range by range of their first documents."""
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.counts, dtype=np.int64)])
        documents = int(before[-1])
        parts = max(1, min(documents, max(4 * self.crew.hands, self.crew.parts(count, PAIR_BYTES))))
        cuts = np.array([documents * number // parts for number in range(parts + 1)])
        tasks = np.searchsorted(before, cuts, "right") - 1
        rows = cuts - before[tasks]
        bounds = [sorted_runs.of_task(int(task))[0] + int(row) for task, row in zip(tasks, rows, strict=True)]
        text_bytes = min(TEXT_BYTES, max(2**20, self.crew.share // 8))
        compare = partial(passes.compare, self.search, pairs, text_bytes)
        yield from self.crew.each(compare, pairwise(bounds))

    def settle(self, nodes: Places, labels: Places) -> Clusters:
        """Choose survivors so that each document that goes is near enough to one that stays.

        A cluster is held together by chains, so its ends may be far from its survivor. What is far chooses again among
        itself; what is far after some rounds goes for any that it was found near to, or stays. Documents that were
        there before are chosen before all others, and stay; what is known to be near one of them goes for that one.
        """
        first_new = np.uint64(self.sources.first_new)
        survivor, similarity, old = nodes.copy(), np.ones(len(nodes)), nodes < first_new
        if old.any():
            for leaves, centres in self.near_pairs():
                found = (centres < first_new) & (leaves >= first_new)
                np.minimum.at(survivor, np.searchsorted(nodes, leaves[found]), centres[found])
        settled = survivor != nodes
        self.measure(nodes, survivor, similarity, np.flatnonzero(settled))
        rank = passes.gather(self.search.documents, nodes, ["rank"])["rank"].to_numpy() if len(nodes) else similarity
        rank = np.where(old, -np.inf, rank)
        waiting, groups = np.arange(len(nodes)), labels
        for _ in range(SETTLING):
            if old[waiting].all():
                break
            best = clusters.choose(nodes[waiting], groups, rank[waiting])
            choosing = ~settled[waiting] & ~old[waiting]
            rows = waiting[choosing]
            survivor[rows] = best[choosing]
            self.measure(nodes, survivor, similarity, rows)
            settled[rows] = ~(similarity[rows] < self.search.threshold)  # NaN, not compared, is taken for near
            settled[waiting] |= old[waiting] & (best == nodes[waiting])
            waiting = waiting[~settled[waiting]]
            groups = self.groups(nodes[waiting])
        survivor[waiting] = nodes[waiting]
        waiting = waiting[~old[waiting]]
        survivor[waiting] = clusters.one_by_one(nodes, survivor, rank, waiting, self.near_pairs(nodes[waiting]))
        self.measure(nodes, survivor, similarity, waiting)
        return Clusters(nodes, labels, survivor, similarity)

    def groups(self, among: Places) -> Places:
        """Return a name of the group of each of some documents, sorted: what holds them together, with others
        between."""
        names = among.copy()
        known, joined = clusters.connect(self.near_pairs(among), sum(self.counts), self.crew.memory)
        here = passes.is_in(known, among)
        names[np.searchsorted(among, known[here])] = joined[here]
        return names

    def near_pairs(self, touching: Places | None = None) -> Iterator[tuple[Places, Places]]:
        """Read the pairs that are near enough, all or those of some documents, part by part."""
        for number in self.search.near_ones.numbers():
            table = self.search.near_ones.open(number)
            leaves, centres = table["leaf"].to_numpy(), table["centre"].to_numpy()
            if touching is not None:
                wanted = passes.is_in(leaves, touching) | passes.is_in(centres, touching)
                leaves, centres = leaves[wanted], centres[wanted]
            yield leaves, centres

    def measure(
        self, nodes: Places, survivor: Places, similarity: NDArray[np.float64], rows: NDArray[np.int64]
    ) -> None:
        """Fill in the similarity of some documents to their survivors."""
        if len(rows):
            runs = SortedRuns(self.search.folder / "survivors")
            runs.write(0, {"place": nodes[rows], "survivor": survivor[rows]})
            parts = [table["similarity"].to_numpy() for table in self.compared(runs, len(rows))]
            similarity[rows] = np.concatenate(parts)


def stream_of(values: NDArray[np.uint64]) -> bytes:
    """Return an array in numpy's format."""
    sink = io.BytesIO()
    np.save(sink, values, allow_pickle=False)
    return sink.getvalue()
