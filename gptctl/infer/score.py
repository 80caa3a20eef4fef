"""How likely a model finds pieces of text, in nats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gptctl.core.errors import DataError
from gptctl.model.gpt import GPT

CHUNK_LOGITS = 2**24  # logits held at once, 64 MiB: a batch of long texts and a large vocabulary would take gigabytes


class Request(NamedTuple):
    """Token ids (1 + T,): the last `num_targets` are targets, those before are context. T is at most max_seq_len."""

    tokens: NDArray[np.int64]
    num_targets: int


class TokenScores(NamedTuple):
    """For each piece: -sum ln p(target | what is before it), (N,), and whether each target was the likeliest, (N,)."""

    nll: NDArray[np.float64]
    is_greedy: NDArray[np.bool_]


@torch.no_grad()
def score_requests(
    model: GPT,
    pieces: Sequence[Request],
    batch_size: int,
    device: torch.device,
    each_batch: Callable[[int], None] = lambda done: None,
) -> TokenScores:
    """Score pieces in batches of like lengths; sums are in float64.

    The model is causal and padding comes after a piece, so its score does not depend on its batch beyond rounding.
    Raises DataError (3) where a log-probability is not a finite number.
    """
    model = model.to(device).eval()
    nats, greedy = np.zeros(len(pieces)), np.ones(len(pieces), np.bool_)
    order = sorted((i for i, piece in enumerate(pieces) if piece.num_targets), key=lambda i: len(pieces[i].tokens))
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        longest = max(len(pieces[i].tokens) for i in part) - 1
        tokens = torch.zeros(len(part), longest, dtype=torch.long)
        rows: list[NDArray[Any]] = []
        places: list[NDArray[Any]] = []
        for row, i in enumerate(part):
            inputs = pieces[i].tokens[:-1]
            tokens[row, : len(inputs)] = torch.from_numpy(inputs)
            places.append(np.arange(len(inputs) - pieces[i].num_targets, len(inputs)))
            rows.append(np.full(pieces[i].num_targets, row))
        hidden = model.hidden_states(tokens.to(device))  # (B, T, C)
        row_of, place_of = np.concatenate(rows), np.concatenate(places)
        targets = np.concatenate([pieces[i].tokens[-pieces[i].num_targets :] for i in part])
        losses, right = target_losses(model, hidden, row_of, place_of, targets)
        nats[part] = np.bincount(row_of, losses, len(part))
        greedy[part] = np.bincount(row_of, ~right, len(part)) == 0
        each_batch(start + len(part))
    if not np.isfinite(nats).all():
        raise DataError(
            "the model gives a token a log-probability that is not a finite number",
            "check the weights with: gptctl doctor MODEL",
        )
    return TokenScores(nats, greedy)


def target_losses(
    model: GPT, hidden: Tensor, rows: NDArray[Any], places: NDArray[Any], targets: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return -ln p of each target (M,) and whether it is the likeliest; logits are made only where there is a
    target."""
    step = max(1, CHUNK_LOGITS // model.config.vocab_size)
    losses, right = np.empty(len(targets)), np.empty(len(targets), np.bool_)
    for start in range(0, len(targets), step):
        part = slice(start, start + step)
        chosen = hidden[torch.from_numpy(rows[part]), torch.from_numpy(places[part])]  # (m, C)
        wanted = torch.from_numpy(targets[part].astype(np.int64)).to(hidden.device)
        logits = model.logits(chosen).float()  # (m, V)
        found = logits.log_softmax(-1).gather(1, wanted[:, None])[:, 0]
        losses[part] = -found.double().cpu().numpy()
        right[part] = (logits.argmax(-1) == wanted).cpu().numpy()
    return losses, right
