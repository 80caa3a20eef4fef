"""Log-likelihood requests: how probable a language model finds tokens after a context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from gptctl.core.errors import DataError
from gptctl.evals.inference.loaded_model import LoadedModel
from gptctl.evals.tasks import Outputs
from gptctl.infer.request import Request

if TYPE_CHECKING:
    import torch


def continuation_request(context: Sequence[int], target: Sequence[int], max_length: int, row_id: str) -> Request:
    """Build the request that scores `target` after `context`, which starts with end-of-text.

    A context that is too long loses its beginning; the target loses nothing. Raises DataError (3) for a target that is
    empty or does not fit by itself.
    """
    if not target or len(target) > max_length:
        raise DataError(
            f"id '{row_id}' has a choice of {len(target)} tokens, the model reads {max_length}", "shorten the choice"
        )
    return Request(np.array([*context, *target][-(max_length + 1) :], np.int64), len(target))


def score_nats(model: LoadedModel, requests: Sequence[Request], batch_size: int, device: torch.device) -> Outputs:
    """Return the column `nats`: the negative log-likelihood of the targets of each request."""
    from gptctl.infer.score import score_requests
    from gptctl.model.gpt import GPT

    assert isinstance(model.model, GPT)
    return {"nats": score_requests(model.model, requests, batch_size, device).nll.tolist()}
