"""Writing the documents that are kept: the last step of the methods minhash and exact."""

from __future__ import annotations

from typing import Any, Protocol

from gptctl.core.errors import DataError
from gptctl.pipeline import finalize
from gptctl.pipeline.dataset_output import DatasetOutput, StageResult
from gptctl.pipeline.shard_pipeline import ShardPipeline
from gptctl.text.dedup import conflicts, report
from gptctl.text.dedup.corpus import Corpus
from gptctl.text.dedup.whole_documents.clusters import Clusters
from gptctl.text.dedup.whole_documents.criteria import Criteria
from gptctl.text.dedup.whole_documents.decisions import Decisions
from gptctl.text.dedup.whole_documents.removal import RemoveDuplicates
from gptctl.text.dedup.whole_documents.workspace import Workspace
from gptctl.text.dedup.worker_pool import WorkerPool


class Search(Protocol):
    """A search for duplicate documents: with sorted keys on disk, or with an LSH index."""

    @property
    def criteria(self) -> Criteria:
        """What makes two documents duplicates."""

    @property
    def workspace(self) -> Workspace:
        """Where intermediate files are."""

    @property
    def corpus(self) -> Corpus:
        """What is read."""

    @property
    def pool(self) -> WorkerPool:
        """Who does the work."""

    def run(self) -> tuple[Clusters, dict[str, int]]:
        """Return the clusters with their survivors, and metrics of the search."""


def write_without_duplicates(
    search: Search, dataset: DatasetOutput, label_column: str, needs_labels: bool = False
) -> StageResult:
    """Search for duplicates and write the documents of INPUT without them, into a dataset.

    If documents have labels, clusters with different labels are counted and listed. Raises DataError (3) if labels are
    needed and there are none.
    """
    corpus, pool, workspace = search.corpus, search.pool, search.workspace
    clusters, metrics = search.run()
    if needs_labels and not conflicts.has_labels(workspace.documents):
        if dataset.folder:
            finalize.remove_work_folder(dataset.folder)  # so that the next command may have other settings
        raise DataError(f"no document has a label in column '{label_column}'", "name another with --label-column")
    decisions = Decisions(workspace, clusters, corpus.input_start, pool.max_memory)
    read = workspace.cache.after(len(corpus.against)).read
    remove = RemoveDuplicates(search.criteria, label_column)
    pipeline = ShardPipeline(remove, corpus.options, dataset.folder, dataset.storage, read=read)
    tasks = decisions.attach(corpus.input_tasks())
    totals = pipeline.run(tasks, pool.executor, pool.context, dataset.pipe)
    found: dict[str, Any] = report.cluster_metrics(clusters, corpus.input_start, totals.stats) | metrics
    if labels := conflicts.distinct_labels(label for stats in totals.stats for label in stats["labels"]):
        found["labels"] = len(labels)
        found["conflicts"] = conflicts.count(decisions.cluster_numbers, decisions.is_conflicting)
    return StageResult(totals, found)
