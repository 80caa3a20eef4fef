"""The search with datasketch's index: it is asked for each document in order, and given those without a duplicate."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from gptctl.io.input.inputs import read_task
from gptctl.io.input.records import ReadOptions, Task
from gptctl.pipeline.sorted_runs import places
from gptctl.text.dedup import clusters, minhash, passes, streaming
from gptctl.text.dedup.clusters import ELSEWHERE, Clusters
from gptctl.text.dedup.passes import Search
from gptctl.text.dedup.streaming import Index
from gptctl.text.dedup.worker_pool import Crew, Sources

BAND_BYTES = 540  # of the index for each band of a document that stays, in memory and in Redis


def sign(search: Search, reading: ReadOptions, task: Task) -> NDArray[np.uint32]:
    """Return the signatures of a task's documents, (n, num_perm), in a worker; short ones have those of their text."""
    table = read_task(task, reading)[0]
    same = passes.describe(search, task.index, table, np.zeros(len(table)))
    values, short = minhash.signatures(table["text"].combine_chunks(), search.num_perm, search.how, search.seed)
    values[short] = streaming.exact_rows(same[short], search.num_perm)
    return values


def find(index: Index, run: str, search: Search, sources: Sources, crew: Crew) -> tuple[Clusters, dict[str, int]]:
    """Find the documents that have a duplicate before them, in the input or in the index; and count them.

    What the index finds counts: nothing is compared exactly, and the first document stays. `run` names the input, by
    its content: the same input finds its own documents again, another one those of all inputs before.
    """
    search.forget()
    leaf, centre = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
    new = number = 0
    for number, values in enumerate(crew.each(partial(sign, search, sources.reading), sources.all()), 1):
        own = places(number - 1, np.arange(len(values)))
        answers = index.first_duplicate([f"{run}:{place:x}" for place in own.tolist()], values)
        leaf.append(own[[answer is not None for answer in answers]])
        found = [place_of(run, answer) for answer in answers if answer is not None]
        centre.append(np.array(found, np.uint64))
        new += len(own) - len(found)
        crew.context.progress(number, None, "shards asked for", f"{new:,} new documents")
    search.documents.keep_first(number)
    leaves, centres = np.concatenate(leaf), np.concatenate(centre)
    clustered = stars(leaves, centres, new + len(leaves), crew.memory)
    return clustered, {"candidates": len(leaves), "disk_bytes": search.bytes()}


def place_of(run: str, name: str) -> int:
    """Return the place that a name in the index means, if it is one of this input's, else ELSEWHERE."""
    owner, _, place = name.rpartition(":")
    return int(place, 16) if owner == run else int(ELSEWHERE)


def stars(leaves: NDArray[np.uint64], centres: NDArray[np.uint64], documents: int, memory: int) -> Clusters:
    """Make clusters of documents that each have one before them, which stays; or one in an earlier input."""
    here = centres != ELSEWHERE
    nodes, first = clusters.connect([(leaves[here], centres[here])], documents, memory)
    place = np.concatenate([nodes, leaves[~here]])
    order = np.argsort(place)
    survivor = np.concatenate([first, centres[~here]])[order]
    first = np.concatenate([first, leaves[~here]])[order]
    return Clusters(place[order], first, survivor, np.where(place[order] == survivor, 1.0, np.nan))
