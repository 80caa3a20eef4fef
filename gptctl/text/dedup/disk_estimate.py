"""How much disk deduplication will need, estimated from the first documents of the input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gptctl.text.dedup.repeated_text import search as repeat_search
from gptctl.text.dedup.repeated_text.method import Method
from gptctl.text.dedup.whole_documents import search as document_search
from gptctl.text.dedup.whole_documents.search import DOCUMENT_BYTES, KEY_BYTES
from gptctl.text.dedup.worker_pool import WorkerPool


@dataclass(frozen=True)
class DiskEstimate:
    """What a document takes on average, and the memory to sort one key."""

    keys_per_document: float
    bytes_per_document: float
    sorting_bytes: int

    def scale(self, documents: int, pool: WorkerPool) -> dict[str, Any]:
        """Return the facts of `--dry-run` for a number of documents."""
        return {
            "documents": documents,
            "bytes_per_document_on_disk": round(self.bytes_per_document),
            "disk_bytes": round(documents * self.bytes_per_document),
            "sort_ranges": pool.partitions(round(documents * self.keys_per_document), self.sorting_bytes),
        }


def of_documents(table: pa.Table, bands: int) -> DiskEstimate:
    """Estimate the search for duplicate documents, from a table of at least one; `bands` is 0 for exact copies only."""
    keys = 1 + bands
    id_bytes = pc.sum(pc.binary_length(table["id"])).as_py() / len(table)
    return DiskEstimate(keys, KEY_BYTES * keys + DOCUMENT_BYTES + id_bytes, document_search.SORTING_BYTES)


def repeated_text(table: pa.Table, method: Method) -> DiskEstimate:
    """Estimate the search for repeated text, from a table of at least one document."""
    keys = len(method.keys(table["text"].combine_chunks())[0]) / len(table)
    return DiskEstimate(keys, KEY_BYTES * keys, repeat_search.SORTING_BYTES)
