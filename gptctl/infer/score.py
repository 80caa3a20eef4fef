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
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        longest = max(len(requests[i].tokens) for i in part) - 1
        tokens = torch.zeros(len(part), longest, dtype=torch.long)
        rows: list[NDArray[Any]] = []
        columns: list[NDArray[Any]] = []
        for row, i in enumerate(part):
            inputs = requests[i].tokens[:-1]
            tokens[row, : len(inputs)] = torch.from_numpy(inputs)
            columns.append(np.arange(len(inputs) - requests[i].num_targets, len(inputs)))
            rows.append(np.full(requests[i].num_targets, row))
        hidden = model.hidden_states(tokens.to(device))  # (B, T, C)
        row_of, column_of = np.concatenate(rows), np.concatenate(columns)
        targets = np.concatenate([requests[i].tokens[-requests[i].num_targets :] for i in part])
        losses, correct = target_losses(model, hidden, row_of, column_of, targets)
        nll[part] = np.bincount(row_of, losses, len(part))
        is_greedy[part] = np.bincount(row_of, ~correct, len(part)) == 0
        on_batch(start + len(part))
    if not np.isfinite(nll).all():
        raise DataError(
            "the model returns a log-probability that is not a finite number",
            "check the weights with: gptctl doctor MODEL",
        )
    return TokenScores(nll, is_greedy)


def target_losses(
    model: GPT, hidden: Tensor, rows: NDArray[Any], columns: NDArray[Any], targets: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return -ln p of each target (M,), and whether it is the most likely token.

    `rows` and `columns` are the places of the hidden states (B, T, C) that predict the targets; only their logits are
    computed.
    """
    step = max(1, CHUNK_LOGITS // model.config.vocab_size)
    losses, correct = np.empty(len(targets)), np.empty(len(targets), np.bool_)
    for start in range(0, len(targets), step):
        part = slice(start, start + step)
        chosen = hidden[torch.from_numpy(rows[part]), torch.from_numpy(columns[part])]  # (m, C)
        wanted = torch.from_numpy(targets[part].astype(np.int64)).to(hidden.device)
        logits = model.logits(chosen).float()  # (m, V)
        log_probs = logits.log_softmax(-1).gather(1, wanted[:, None])[:, 0]
        losses[part] = -log_probs.double().cpu().numpy()
        correct[part] = (logits.argmax(-1) == wanted).cpu().numpy()
    return losses, correct
