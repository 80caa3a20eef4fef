"""The search for duplicate documents from end to end: signatures, candidates, verification, clusters, survivors."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gptctl.core import atomic
from gptctl.pipeline import sorted_runs
from gptctl.pipeline.sorted_runs import distinct
from gptctl.text.dedup.corpus import Corpus
from gptctl.text.dedup.whole_documents import clusters, keep_policy
from gptctl.text.dedup.whole_documents.candidates import PairCandidates
from gptctl.text.dedup.whole_documents.clusters import Clusters
from gptctl.text.dedup.whole_documents.criteria import Criteria
from gptctl.text.dedup.whole_documents.signatures import Facts, SignTask
from gptctl.text.dedup.whole_documents.survivors import SurvivorSelection
from gptctl.text.dedup.whole_documents.verification import Verifier, WriteShingles
from gptctl.text.dedup.whole_documents.workspace import Docs, Workspace
from gptctl.text.dedup.worker_pool import WorkerPool

MAX_ROUNDS = 3  # of pairing again the documents that were too dissimilar from the first of their bucket
KEY_BYTES = 16  # on disk for each key with its document
DOCUMENT_BYTES = 48  # on disk for each document besides its keys and its id
SORTING_BYTES = 6 * KEY_BYTES  # memory for each key of a range while keys are sorted and paired


@dataclass
class DocumentSearch:
    """Finds the clusters of duplicate documents. `facts` are stored for each document, see `SignTask`.

    `keep` is the policy by which the facts rank documents.
    """

    criteria: Criteria
    workspace: Workspace
    facts: Facts
    corpus: Corpus
    pool: WorkerPool
    keep: str = "first"
    task_sizes: list[int] = field(default_factory=list)  # documents of each task
    metrics: dict[str, int] = field(default_factory=dict)

    def run(self) -> tuple[Clusters, dict[str, int]]:
        """Return the clusters with their survivors, and metrics of the search."""
        docs, first = self.find_clusters()
        selection = SurvivorSelection(self._verifier(), docs, first, self.corpus.input_start)
        return selection.run(), self.metrics

    def find_clusters(self) -> tuple[Docs, Docs]:
        """Return the documents of all clusters, sorted, and the first document of each one's cluster."""
        self.workspace.clear_later_steps()
        keys = self._write_signatures()
        self.metrics = {"candidates": 0, **({"false_positives": 0} if self.criteria.verify else {})}
        found = clusters.connect(self._find_pairs(keys), sum(self.task_sizes), self.pool.max_memory)
        self.metrics["disk_bytes"] = self.workspace.bytes()
        return found

    def _write_signatures(self) -> int:
        """Hash all documents and return the number of keys.

        Raises DataError (3) if `--against` is unreadable, or if the policy names what no document has.
        """
        keys = unreadable = documents = 0
        known: dict[str, None] = {}
        others: dict[str, None] = {}
        sign = SignTask(self.criteria, self.workspace, self.facts, self.corpus.options, self.keep)
        against = len(self.corpus.against)
        for counts in self.pool.map(sign, self.corpus.tasks()):
            if len(self.task_sizes) < against:
                unreadable += counts.unreadable
            else:
                known |= dict.fromkeys(counts.known)
                others |= dict.fromkeys(counts.others)
            self.task_sizes.append(counts.documents)
            documents, keys = documents + counts.documents, keys + counts.keys
            self.pool.context.report_shards(len(self.task_sizes), "shards hashed", f"{documents:,} documents", against)
        self.workspace.keep_first_tasks(len(self.task_sizes))
        self.corpus.check_against(sum(self.task_sizes[:against]), unreadable, self.pool.context.warn)
        if sum(self.task_sizes[against:]):
            keep_policy.check_known(self.keep, known, others)
        return keys

    def _find_pairs(self, keys: int) -> Iterator[tuple[Docs, Docs]]:
        """Yield the pairs of duplicates in parts, and write them to the workspace.

        Documents that are too dissimilar from the first of their bucket may be duplicates of each other. They are
        paired again without it, even if they were similar to the first of another bucket.
        """
        only: Path | None = None
        ranges, written = self.pool.partitions(keys, SORTING_BYTES), 0
        for round_number in range(1, MAX_ROUNDS + 1):
            pair = PairCandidates(self.workspace, round_number, only)
            count = sum(self.pool.map(pair, enumerate(sorted_runs.ranges(ranges))))
            if round_number == 1 and self.criteria.near_duplicates and self.criteria.verify:
                write = WriteShingles(self.criteria, self.workspace, self.corpus.options)
                sum(self.pool.map(write, self.corpus.tasks()))
            rejected = [np.empty(0, np.uint64)]
            for pairs in self._verifier().verify(self.workspace.candidate_pairs(round_number), count):
                self.metrics["candidates"] += len(pairs.left)
                is_duplicate = ~(pairs.similarity < self.criteria.threshold)  # NaN, not compared, counts as similar
                if self.criteria.verify:
                    self.metrics["false_positives"] += int((~is_duplicate).sum())
                rejected.append(distinct(pairs.left[~is_duplicate]))
                left, right = pairs.left[is_duplicate], pairs.right[is_duplicate]
                self.workspace.duplicate_pairs.write(written, {"left": left, "right": right})
                written += 1
                yield left, right
            again = np.concatenate(rejected)  # sorted, as the parts are ranges of left documents
            if len(again) < 2:
                return
            only = self.workspace.open_documents(round_number)
            atomic.write_bytes(only, npy_bytes(again), flush="none")

    def _verifier(self) -> Verifier:
        """Return a verifier of pairs."""
        return Verifier(self.criteria, self.workspace, self.pool, self.task_sizes)


def npy_bytes(values: Docs) -> bytes:
    """Return an array in numpy's file format."""
    sink = io.BytesIO()
    np.save(sink, values, allow_pickle=False)
    return sink.getvalue()
