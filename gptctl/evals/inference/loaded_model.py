"""What tasks have in common: the model that is asked, how, and the pieces that it is asked about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from gptctl.core.errors import UsageError
from gptctl.evals.scoring.metric_results import Rows
from gptctl.infer.score import Request
from gptctl.text.classifier_inputs import Framing
from gptctl.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch

    from gptctl.model.classifier import Classifier
    from gptctl.model.gpt import GPT

Answers: TypeAlias = dict[str, list[Any]]  # a column per name, a value per piece
Finish: TypeAlias = Callable[[Answers], Rows]


@dataclass(frozen=True)
class Settings:
    """How a model is asked. All of it can change an answer, if only in the last digit.

    context: tokens read at once, 0 for all that the model can. stride: new tokens per window, 0 for the context.
    delimiter: stands between a context and each choice. stop: texts at which generated text ends, left out.
    """

    label_column: str = "label"
    batch_size: int = 64
    context: int = 0
    stride: int = 0
    count_eos: bool = False
    allow_lossy: bool = False
    delimiter: str = " "
    max_tokens: int = 64
    stop: tuple[str, ...] = ("\n",)


@dataclass(frozen=True)
class Asked:
    """A loaded model. A classifier has names of labels, and a way to read texts, or pairs with a second column."""

    model: GPT | Classifier
    coder: Tokenizer
    label_names: tuple[str, ...] = ()
    framing: Framing | None = None
    pair_column: str | None = None

    def context(self, settings: Settings) -> int:
        """Return the tokens that are read at once. Raises UsageError (2) for more than the model can read."""
        most = self.model.config.max_seq_len
        if settings.context > most:
            raise UsageError(f"context is {settings.context}, the model reads {most} tokens", "give a smaller context")
        return settings.context or most


@dataclass(frozen=True)
class Prepared:
    """Pieces, and the function that makes rows of their answers."""

    pieces: Sequence[Request]
    finish: Finish


def nats_of(
    asked: Asked, pieces: Sequence[Request], settings: Settings, device: torch.device, each: Callable[[int], None]
) -> Answers:
    """Return a language model's nats of each piece."""
    from gptctl.infer.score import score_requests
    from gptctl.model.gpt import GPT

    assert isinstance(asked.model, GPT)
    return {"nats": score_requests(asked.model, pieces, settings.batch_size, device, each).nll.tolist()}
