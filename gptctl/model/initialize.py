"""The initial weights of each family. The same seed gives the same weights on every machine."""

from __future__ import annotations

import math

import torch
from torch import nn

from gptctl.core.seeds import derive
from gptctl.model.gpt import GPT

# The matrices that write to the residual stream; the last one holds those of all experts.
RESIDUAL = ("attention.output.weight", "feed_forward.down.weight", "feed_forward.experts.down")


def initialize(model: GPT, seed: int) -> None:
    """Fill all parameters as config.init says. Norms start as the identity, biases and vocabulary padding as zero.

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
    scheme = model.config.init
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2:
                nn.init.ones_(parameter) if name.endswith("norm.weight") else nn.init.zeros_(parameter)
            elif name == "embedding.weight":
                parameter.normal_(
                    0, model.config.hidden_size**-0.5 if scheme == "xavier" else 0.02, generator=generator
                )
            elif name == "positions.weight":
                parameter.normal_(0, 0.01 if scheme == "gpt2" else 0.02, generator=generator)
            elif name == "head.weight":
                parameter.normal_(0, 0.001 if scheme == "zero_out" else 0.02, generator=generator)
            else:
                fill_matrix(parameter, name, scheme, model.config.layers, generator)
        for table in (model.embedding, model.head):
            if table is not None:
                table.weight[model.config.vocab_size :] = 0


def fill_matrix(matrix: torch.Tensor, name: str, scheme: str, layers: int, generator: torch.Generator) -> None:
    """Fill one matrix (out, in) of a block, or those of all its experts (experts, out, in)."""
    into_residual = name.endswith(RESIDUAL)
    if scheme == "xavier":
        bound = math.sqrt(6 / (matrix.size(-1) + matrix.size(-2)))
        matrix.uniform_(-bound, bound, generator=generator)
    elif scheme == "zero_out":
        bound = math.sqrt(3 / matrix.size(-1))
        matrix.zero_() if into_residual else matrix.uniform_(-bound, bound, generator=generator)
    else:
        scale = (2 * layers) ** -0.5 if scheme == "gpt2" and into_residual else 1.0
        matrix.normal_(0, 0.02 * scale, generator=generator)
