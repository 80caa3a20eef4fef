"""The folder of intermediate files through which the steps of a search for duplicate documents exchange data."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.pipeline.document_cache import DocumentCache
from gptctl.pipeline.sorted_runs import ROW_BITS, SortedRuns

# Documents by location: the number of the task and the row in it, packed into 64 bits, which sort like the input.
Docs = NDArray[np.uint64]
FIRST_STEP = ("keys", "documents", "signatures", "cache")


@dataclass(frozen=True)
class Workspace:
    """Tables on disk, sorted by their first column, each in one run per task or per range of values.

    `cache` keeps documents as Arrow from the first step to the later ones.
    """

    folder: Path
    cache: DocumentCache = field(default_factory=DocumentCache)

    @classmethod
    def create(cls, folder: Path, cache_documents: bool = False) -> Workspace:
        """Return the workspace in a folder, which need not exist yet."""
        return cls(folder, DocumentCache(folder / "cache" if cache_documents else None))

    @property
    def keys(self) -> SortedRuns:
        """Band keys and exact keys of each document: `key`, `doc`."""
        return SortedRuns(self.folder / "keys")

    @property
    def documents(self) -> SortedRuns:
        """Facts about each document: `doc`, exact key (`high`, `low`), `length` in bytes, `id`, and more."""
        return SortedRuns(self.folder / "documents")

    def signature_record(self, task: int) -> Path:
        """Return the file that says that a task's keys and documents are complete."""
        return self.folder / "signatures" / f"{task:05d}.json"

    def candidate_pairs(self, round_number: int) -> SortedRuns:
        """Documents that share a key, paired with the first that has it: `left`, `right`."""
        return SortedRuns(self.folder / f"candidate-pairs-{round_number}")

    def candidates(self, round_number: int) -> SortedRuns:
        """The documents that occur in a candidate pair: `doc`."""
        return SortedRuns(self.folder / f"candidates-{round_number}")

    def open_documents(self, round_number: int) -> Path:
        """Return the numpy file with the documents that a round leaves to the next one, sorted."""
        return self.folder / f"open-{round_number}.npy"

    @property
    def shingle_sets(self) -> SortedRuns:
        """The shingles of each candidate: `doc`, `shingles`."""
        return SortedRuns(self.folder / "shingle-sets")

    @property
    def duplicate_pairs(self) -> SortedRuns:
        """Candidate pairs that are similar enough: `left`, `right`."""
        return SortedRuns(self.folder / "duplicate-pairs")

    @property
    def survivor_pairs(self) -> SortedRuns:
        """Documents with their survivors: `left`, `right`."""
        return SortedRuns(self.folder / "survivor-pairs")

    def clear_later_steps(self) -> None:
        """Remove what an interrupted run left after the first step, as it may have used other ranges."""
        for entry in sorted(self.folder.glob("*")):
            if entry.name not in FIRST_STEP:
                shutil.rmtree(entry, ignore_errors=True)
                entry.unlink(missing_ok=True)

    def keep_first_tasks(self, count: int) -> None:
        """Remove what an interrupted run left of further tasks: it read another, longer stream."""
        for runs in (self.keys, self.documents):
            runs.keep_first(count)

    def bytes(self) -> int:
        """Return the bytes on disk of all documents and candidates."""
        return self.keys.bytes() + self.documents.bytes() + self.shingle_sets.bytes()


def lookup(runs: SortedRuns, docs: Docs, columns: Sequence[str]) -> pa.Table:
    """Return the rows of at least one document, sorted by `docs`, from the runs of their tasks."""
    tasks = (docs >> np.uint64(ROW_BITS)).astype(np.int64)
    parts = []
    for of_task in np.split(docs, np.flatnonzero(np.diff(tasks)) + 1):
        table = runs.open(int(of_task[0]) >> ROW_BITS)
        rows = np.searchsorted(table.column(0).to_numpy(), of_task)
        parts.append(table.select(list(columns)).take(pa.array(rows)))
    return pa.concat_tables(parts)
