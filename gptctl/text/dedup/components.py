"""From equal keys to groups of documents."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


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
