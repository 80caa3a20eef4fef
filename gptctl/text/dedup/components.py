"""From equal keys to groups of documents."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def stars(keys: NDArray[np.uint64], documents: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Give edges (document, smallest document with the same key), shape (k, 2), band by band.

    `keys` has shape (n, bands) or (n,); `documents` (n,) are the documents' numbers, 0 to n - 1 unless given. A star
    joins a run of m equal keys with m - 1 edges, where all pairs would be m * (m - 1) / 2.
    """
    keys = keys[:, None] if keys.ndim == 1 else keys
    documents = np.arange(len(keys), dtype=np.int64) if documents is None else documents
    edges = [_band_stars(keys[:, band], documents) for band in range(keys.shape[1])]
    return np.unique(np.concatenate(edges), axis=0) if edges else np.empty((0, 2), np.int64)


def _band_stars(keys: NDArray[np.uint64], documents: NDArray[np.int64]) -> NDArray[np.int64]:
    order = np.lexsort((documents, keys))
    ordered, numbers = keys[order], documents[order]
    starts_run = np.ones(len(ordered), np.bool_)
    starts_run[1:] = ordered[1:] != ordered[:-1]
    centres = numbers[np.flatnonzero(starts_run)][np.cumsum(starts_run) - 1] if len(ordered) else numbers
    leaves = ~starts_run
    return np.stack([numbers[leaves], centres[leaves]], axis=1)


def components(n: int, edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Label each of n documents with the smallest document it is connected to, itself included: shape (n,).

    The order of edges does not matter.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(edges), np.bool_)
    graph = coo_array((ones, (edges[:, 0], edges[:, 1])), shape=(n, n))
    count, groups = connected_components(graph, directed=False)
    smallest = np.full(count, n, np.int64)
    np.minimum.at(smallest, groups, np.arange(n))
    labels: NDArray[np.int64] = smallest[groups]
    return labels
