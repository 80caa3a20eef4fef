"""How likely a model finds texts, in nats per document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from gptctl.model.gpt import GPT


class Pass(NamedTuple):
    """One forward pass over part of a document: see gptctl/evals/language.py, windows."""

    start_input: int
    end_input: int
    first_target: int


@torch.no_grad()
def nats(
    model: GPT,
    documents: Sequence[NDArray[Any]],
    plans: Sequence[Sequence[Pass]],
    begin_id: int,
    batch_size: int,
    device: torch.device,
    each_batch: Callable[[int], None] = lambda done: None,
) -> NDArray[np.float64]:
    """Give -sum ln p(token | what is before it) of each document, (N,), in float64.

    `plans[i]` says which windows of document i are read and which of their targets count; input -1 is `begin_id`,
    the end-of-text token that stands before every document.
    """
    model = model.to(device).eval()
    jobs = [(i, window) for i, plan in enumerate(plans) for window in plan]
    jobs.sort(key=lambda job: job[1].end_input - job[1].start_input)
    total = np.zeros(len(documents))
    for start in range(0, len(jobs), batch_size):
        part = jobs[start : start + batch_size]
        longest = max(window.end_input - window.start_input for _, window in part)
        tokens = torch.zeros(len(part), longest, dtype=torch.long)
        targets = torch.full((len(part), longest), -1, dtype=torch.long)
        for row, (i, window) in enumerate(part):
            stream = np.append(begin_id, documents[i]).astype(np.int64)  # stream[k + 1] is token k, stream[0] input -1
            inputs = stream[window.start_input + 1 : window.end_input + 1]
            tokens[row, : len(inputs)] = torch.from_numpy(inputs)
            first = window.first_target - window.start_input - 1
            targets[row, first : len(inputs)] = torch.from_numpy(stream[window.first_target + 1 : window.end_input + 2])
        logits = model(tokens.to(device)).float()
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten().to(device), ignore_index=-1, reduction="none")
        sums = losses.view(len(part), -1).double().sum(1).cpu().numpy()
        for (i, _), value in zip(part, sums.tolist(), strict=True):
            total[i] += value
        each_batch(start + len(part))
    return total
