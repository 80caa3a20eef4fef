"""The initial weights of each family. The same seed gives the same weights on every machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from gptctl.core.seeds import derive
from gptctl.model.config import ModelConfig
from gptctl.model.gpt import GPT
from gptctl.model.norms import norm_weight_start
from gptctl.model.tensor_part import TensorPart, row_chunks
from gptctl.model.vocab_padding import PADDED_TENSORS

# The matrices that write to the residual stream; the last one holds those of all experts.
RESIDUAL = (
    "attention.output.weight", "feed_forward.down.weight", "feed_forward.experts.down", "shared_expert.down.weight"
)  # fmt: skip


def initialize(model: GPT, seed: int) -> None:
    """Fill all parameters of a model as config.init says. See `initialize_parts`."""
    parts = {name: TensorPart.whole(parameter) for name, parameter in model.named_parameters()}
    initialize_parts(parts, model.config, seed)


@torch.no_grad()
def initialize_parts(parts: Mapping[str, TensorPart], config: ModelConfig, seed: int) -> None:
    """Fill a rank's parts of all parameters, given in the model's order.

    Every rank draws the numbers of all parameters, chunk by chunk, and keeps its own. So the weights do not depend on
    how ranks share them. Norms start as the identity, biases and vocabulary padding as zero; config.init decides about
    the rest:

    xavier    matrices uniform (Glorot and Bengio 2010); embeddings N(0, 1/hidden_size), which the factor
              sqrt(hidden_size) scales to 1. So does tensor2tensor, the code of "Attention Is All You Need"; the paper
              does not say.
    normal    N(0, 0.02) for all (GPT-1, 4.1)
    gpt2      N(0, 0.02), positions N(0, 0.01) (openai/gpt-2, src/model.py); matrices that write to the residual stream
              are divided by sqrt(2 layers) (GPT-2, 2.3)
    zero_out  matrices that write to the residual stream start at zero, so that each block starts as the identity
              (Zhang et al. 2019, "Fixup"); other matrices uniform with variance 1/fan-in; an untied head N(0, 0.001)
    """
    generator = torch.Generator().manual_seed(derive(seed, "initialize"))
    for name, part in parts.items():
        if len(part.shape) < 2:
            part.values.fill_(norm_weight_start(config) if name.endswith("norm.weight") else 0.0)
            continue
        draw = drawing(name, part.shape, config)
        for rows in row_chunks(part.shape):
            numbers = draw(torch.zeros(rows.stop - rows.start, *part.shape[1:]), generator=generator)
            if name in PADDED_TENSORS:
                numbers[max(0, config.vocab_size - rows.start) :] = 0
            part.copy_rows(rows.start, numbers)


def drawing(name: str, shape: torch.Size, config: ModelConfig) -> Callable[..., Tensor]:
    """Return the method that fills a tensor, in place, with the distribution of an embedding or a matrix.

    The shape of a matrix of a block is (out, in), that of all its experts (experts, out, in).
    """
    scheme, into_residual = config.init, name.endswith(RESIDUAL)
    if name == "embedding.weight":
        return normal(config.hidden_size**-0.5 if scheme == "xavier" else 0.02)
    if name == "positions.weight":
        return normal(0.01 if scheme == "gpt2" else 0.02)
    if name == "head.weight":
        return normal(0.001 if scheme == "zero_out" else 0.02)
    if scheme == "xavier":
        return uniform(math.sqrt(6 / (shape[-1] + shape[-2])))
    if scheme == "zero_out":
        return keep_zero if into_residual else uniform(math.sqrt(3 / shape[-1]))
    return normal(0.02 * ((2 * config.layers) ** -0.5 if scheme == "gpt2" and into_residual else 1.0))


def normal(deviation: float) -> Callable[..., Tensor]:
    """Return a method that fills a tensor with N(0, deviation)."""
    return partial(Tensor.normal_, mean=0.0, std=deviation)


def uniform(bound: float) -> Callable[..., Tensor]:
    """Return a method that fills a tensor with uniform numbers between -bound and bound."""

    def draw(numbers: Tensor, generator: torch.Generator) -> Tensor:
        return numbers.uniform_(-bound, bound, generator=generator)

    return draw


def keep_zero(zeros: Tensor, generator: torch.Generator) -> Tensor:
    """Return the tensor as it is, and draw nothing."""
    return zeros
