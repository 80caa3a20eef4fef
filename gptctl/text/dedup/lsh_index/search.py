"""The search for duplicate documents with an LSH index: each document, in order, queries it and joins it if new."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gptctl.io.input.blocks import ReadOptions, ShardTask
from gptctl.io.input.read_task import read_task
from gptctl.pipeline.sorted_runs import places
from gptctl.text.dedup import minhash
from gptctl.text.dedup.corpus import Corpus
from gptctl.text.dedup.lsh_index.index import LshIndex, exact_signatures
from gptctl.text.dedup.whole_documents import clusters
from gptctl.text.dedup.whole_documents.clusters import IN_INDEX, Clusters
from gptctl.text.dedup.whole_documents.criteria import Criteria
from gptctl.text.dedup.whole_documents.signatures import Facts, write_documents
from gptctl.text.dedup.whole_documents.workspace import Docs, Workspace
from gptctl.text.dedup.worker_pool import WorkerPool

BAND_BYTES = 540  # in the index for each band of a document that is kept, in memory and in Redis


@dataclass(frozen=True)
class ComputeSignatures:
    """Computes the signatures of a task's documents, in a worker."""

    criteria: Criteria
    workspace: Workspace
    facts: Facts
    options: ReadOptions

    def __call__(self, task: ShardTask) -> NDArray[np.uint32]:
        """Return the signatures, shape (n, num_perm). Short documents have those of their exact text."""
        table = read_task(task, self.options)[0]
        exact_keys = write_documents(self.criteria, self.workspace, task.index, table, self.facts(table))
        text = table["text"].combine_chunks()
        num_perm = self.criteria.num_perm
        values, is_short = minhash.signatures(text, num_perm, self.criteria.shingling, self.criteria.seed)
        values[is_short] = exact_signatures(exact_keys[is_short], num_perm)
        return values


@dataclass(frozen=True)
class IndexSearch:
    """Finds the documents that have a duplicate before them, in INPUT or in the index.

    Every match in the index counts: nothing is compared exactly, and the first document is kept. `run_name` names INPUT
    by its content, so that a second run over the same input recognizes its own documents in the index.
    """

    index: LshIndex
    run_name: str
    criteria: Criteria
    workspace: Workspace
    facts: Facts
    corpus: Corpus
    pool: WorkerPool

    def run(self) -> tuple[Clusters, dict[str, int]]:
        """Return the clusters, and metrics of the search."""
        self.workspace.clear_later_steps()
        duplicates, firsts = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
        new = tasks = 0
        compute = ComputeSignatures(self.criteria, self.workspace, self.facts, self.corpus.options)
        for values in self.pool.map(compute, self.corpus.tasks()):
            docs = places(tasks, np.arange(len(values)))
            found = self.index.first_duplicates([f"{self.run_name}:{doc:x}" for doc in docs.tolist()], values)
            duplicates.append(docs[[key is not None for key in found]])
            firsts.append(np.array([self._doc_of(key) for key in found if key is not None], np.uint64))
            new += len(docs) - len(firsts[-1])
            tasks += 1
            self.pool.context.report_shards(tasks, "shards queried", f"{new:,} new documents", len(self.corpus.against))
        self.workspace.documents.keep_first(tasks)
        left, right = np.concatenate(duplicates), np.concatenate(firsts)
        found_clusters = cluster_with_first(left, right, new + len(left), self.pool.max_memory)
        return found_clusters, {"candidates": len(left), "disk_bytes": self.workspace.bytes()}

    def _doc_of(self, key: str) -> int:
        """Return the document that a key in the index stands for: one of this input, or IN_INDEX."""
        run_name, _, doc = key.rpartition(":")
        return int(doc, 16) if run_name == self.run_name else int(IN_INDEX)


def cluster_with_first(duplicates: Docs, firsts: Docs, documents: int, max_memory: int) -> Clusters:
    """Return the clusters of documents that each have an earlier one, which is kept, in this input or IN_INDEX."""
    is_here = firsts != IN_INDEX
    docs, first = clusters.connect([(duplicates[is_here], firsts[is_here])], documents, max_memory)
    docs = np.concatenate([docs, duplicates[~is_here]])
    order = np.argsort(docs)
    survivor = np.concatenate([first, firsts[~is_here]])[order]
    first = np.concatenate([first, duplicates[~is_here]])[order]
    return Clusters(docs[order], first, survivor, np.where(docs[order] == survivor, 1.0, np.nan))
