"""What makes two documents duplicates of each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.text.dedup import exact
from gptctl.text.dedup.minhash import Banding
from gptctl.text.dedup.shingles import Shingling
from gptctl.text.segmentation import segmenters_used


@dataclass(frozen=True)
class Criteria:
    """The settings by which documents are compared.

    With `near_duplicates`, MinHash finds near-duplicates too, else only exact copies count. With `normalize_exact`,
    copies may differ in case, punctuation and white space. With `verify`, a candidate pair counts only if its exact
    Jaccard similarity is at least `threshold`.
    """

    near_duplicates: bool
    normalize_exact: bool
    shingling: Shingling
    threshold: float
    num_perm: int
    banding: Banding
    seed: int
    verify: bool

    def segmenters_used(self, text: pa.LargeStringArray) -> dict[str, int]:
        """Return what segments the words of the shingles, and in how many documents."""
        return segmenters_used(text) if self.near_duplicates and self.shingling.segments_words else {}

    def exact_keys(self, text: pa.LargeStringArray) -> NDArray[np.uint64]:
        """Return the exact key of each document, shape (n, 2)."""
        return exact.normalized_keys(text) if self.normalize_exact else exact.keys(text)
