"""A request to a model: token ids, and how many of the last ones are scored. Imports no torch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Request(NamedTuple):
    """Token ids (1 + T,): the last `num_targets` are targets, those before are context. T is at most max_seq_len."""

    tokens: NDArray[np.int64]
    num_targets: int
