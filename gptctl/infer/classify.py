"""Classification of texts with a finetuned classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from gptctl.model.classifier import Classifier
from gptctl.model.device import to_device


@torch.no_grad()
def label_probabilities(
    model: Classifier,
    texts: Sequence[Sequence[NDArray[np.int64]]],
    batch_size: int,
    device: torch.device,
    on_batch: Callable[[int], None] = lambda done: None,
) -> NDArray[np.float64]:
    """Return the probability of each label for each text, (N, L). A text is one or several sequences of token ids.

    Texts are sorted by length, which saves padding. The model is causal and sequences are padded on the right, so the
    result for a text does not depend on its batch beyond rounding. `on_batch` gets the number of texts done.
    """
    model = model.to(device).eval()
    order = sorted(range(len(texts)), key=lambda i: (len(texts[i]), sum(map(len, texts[i]))))
    found = np.empty((len(texts), model.labels))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        lengths = np.zeros((len(rows), max(len(texts[i]) for i in rows)), np.int64)  # (B, W)
        tokens = np.zeros((*lengths.shape, max(len(s) for i in rows for s in texts[i])), np.int64)
        for row, i in enumerate(rows):
            for number, sequence in enumerate(texts[i]):
                lengths[row, number] = len(sequence)
                tokens[row, number, : len(sequence)] = sequence
        logits, _ = model(to_device(tokens, device), to_device(lengths, device))
        found[rows] = F.softmax(logits.cpu().double(), dim=-1).numpy()
        on_batch(start + len(rows))
    return found
