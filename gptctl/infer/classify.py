"""Label texts with a finetuned classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from gptctl.model.classifier import Classifier


def fit_context(tokens: NDArray[Any], end_of_text_id: int, context: int) -> NDArray[np.int64]:
    """Cut a text to its head and close it with end-of-text, where the classifier reads: (T,), T <= context."""
    return np.append(tokens[: context - 1], end_of_text_id).astype(np.int64)


@torch.no_grad()
def probabilities(
    model: Classifier,
    texts: Sequence[NDArray[np.int64]],
    batch_size: int,
    device: torch.device,
    each_batch: Callable[[int], None] = lambda done: None,
) -> NDArray[np.float64]:
    """Give each text's probability of each label, (N, L). Texts are sorted by length to save padding.

    The answer for a text does not depend on its batch beyond rounding: the model is causal and padding comes after.
    """
    model = model.to(device).eval()
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found = np.empty((len(texts), model.labels))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        lengths = torch.tensor([len(texts[i]) for i in rows])
        tokens = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
        for place, i in enumerate(rows):
            tokens[place, : len(texts[i])] = torch.from_numpy(texts[i])
        logits, _ = model(tokens.to(device), lengths.to(device))
        found[rows] = F.softmax(logits.double(), dim=-1).cpu().numpy()
        each_batch(start + len(rows))
    return found
