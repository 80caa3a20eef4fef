"""Scoring: the negative log-likelihood of tokens under a model, in nats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gptctl.core.errors import DataError
from gptctl.infer.request import Request
from gptctl.model.device import HostCopy, to_device
from gptctl.model.gpt import GPT

CHUNK_LOGITS = 2**24  # logits in memory at once, 64 MiB: a batch of long texts and a large vocabulary need gigabytes


class TokenScores(NamedTuple):
    """The scores of N requests.

    nll is -sum ln p(target | tokens before it), (N,). is_greedy (N,) is True if each target was the most likely token.
    """

    nll: NDArray[np.float64]
    is_greedy: NDArray[np.bool_]


@torch.no_grad()
def score_requests(
    model: GPT,
    requests: Sequence[Request],
    batch_size: int,
    device: torch.device,
    on_batch: Callable[[int], None] = lambda done: None,
) -> TokenScores:
    """Score requests in batches of similar length, with sums in float64. `on_batch` gets the number of requests done.

    The model is causal and requests are padded on the right, so a score does not depend on the batch beyond rounding.
    Raises DataError (3) if a log-probability is not finite.
    """
    model = model.to(device).eval()
    nll, is_greedy = np.zeros(len(requests)), np.ones(len(requests), np.bool_)
    order = sorted(
        (i for i, request in enumerate(requests) if request.num_targets), key=lambda i: len(requests[i].tokens)
    )
    waiting: BatchScores | None = None
    for start in range(0, len(order), batch_size):
        launched = BatchScores.launch(model, requests, order[start : start + batch_size], device)
        if waiting is not None:  # a GPU works on the next batch in the meantime
            waiting.store(nll, is_greedy)
            on_batch(start)
        waiting = launched
    if waiting is not None:
        waiting.store(nll, is_greedy)
        on_batch(len(order))
    if not np.isfinite(nll).all():
        raise DataError(
            "the model returns a log-probability that is not a finite number",
            "check the weights with: gptctl doctor MODEL",
        )
    return TokenScores(nll, is_greedy)


class BatchScores(NamedTuple):
    """The scores of the targets of a batch, which a device may still compute.

    `part` are the numbers of its requests, `row_of` (M,) the place in it of each target's request. `found` (2, M) is
    ln p of each target, and whether it is the most likely token.
    """

    part: list[int]
    row_of: NDArray[Any]
    found: HostCopy

    @classmethod
    def launch(cls, model: GPT, requests: Sequence[Request], part: list[int], device: torch.device) -> BatchScores:
        """Start to score requests, padded on the right to the longest one."""
        longest = max(len(requests[i].tokens) for i in part) - 1
        tokens = np.zeros((len(part), longest), np.int64)
        rows: list[NDArray[Any]] = []
        columns: list[NDArray[Any]] = []
        for row, i in enumerate(part):
            inputs = requests[i].tokens[:-1]
            tokens[row, : len(inputs)] = inputs
            columns.append(np.arange(len(inputs) - requests[i].num_targets, len(inputs)))
            rows.append(np.full(requests[i].num_targets, row))
        targets = np.concatenate([requests[i].tokens[-requests[i].num_targets :] for i in part])
        row_of, column_of = np.concatenate(rows), np.concatenate(columns)
        places = to_device(np.stack((row_of, column_of, targets.astype(np.int64))), device)  # (3, M)
        hidden = model.hidden_states(to_device(tokens, device))  # (B, T, C)
        return cls(part, row_of, HostCopy(target_scores(model, hidden, *places.unbind())))

    def store(self, nll: NDArray[np.float64], is_greedy: NDArray[np.bool_]) -> None:
        """Wait for the scores, and write those of each request into the arrays of all requests."""
        log_probs, correct = self.found.wait().double().numpy()
        nll[self.part] = np.bincount(self.row_of, -log_probs, len(self.part))
        is_greedy[self.part] = np.bincount(self.row_of, correct == 0, len(self.part)) == 0


def target_scores(model: GPT, hidden: Tensor, rows: Tensor, columns: Tensor, targets: Tensor) -> Tensor:
    """Return ln p of each target (M,), and 1 where it is the most likely token, else 0: (2, M) float32.

    `rows` and `columns` (M,) are the places of the hidden states (B, T, C) that predict the targets; only their logits
    are computed.
    """
    step = max(1, CHUNK_LOGITS // model.config.vocab_size)
    found = []
    for start in range(0, len(targets), step):
        part = slice(start, start + step)
        logits = model.logits(hidden[rows[part], columns[part]]).float()  # (m, V)
        log_probs = logits.log_softmax(-1).gather(1, targets[part, None])[:, 0]
        found.append(torch.stack((log_probs, (logits.argmax(-1) == targets[part]).float())))
    return torch.cat(found, dim=1)
