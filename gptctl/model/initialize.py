"""How the weights of each family start. The same seed gives the same weights on every machine."""

from __future__ import annotations

import math

import torch
from torch import nn

from gptctl.core.seeds import derive
from gptctl.model.gpt import GPT

# What writes into the residual stream; the last is all experts' at once.
RESIDUAL = ("attention.output.weight", "feed_forward.down.weight", "feed_forward.experts.down")


def initialize(model: GPT, seed: int) -> None:
    """Fill all parameters by config.init; norms start as the identity, biases and the vocabulary's padding at zero.

    xavier    Glorot and Bengio 2010, uniform, for matrices; embeddings N(0, 1/width), which sqrt(width) brings to 1:
              what tensor2tensor, the code of "Attention Is All You Need", does (the paper is silent)
    normal    N(0, 0.02) everywhere (GPT-1, 4.1)
    gpt2      N(0, 0.02), positions N(0, 0.01) (openai/gpt-2, src/model.py), and the maps into the residual stream
              divided by sqrt(2 layers) (GPT-2, 2.3)
    zero_out  the maps into the residual stream start at zero, so each block starts as the identity (Zhang et al. 2019,
              "Fixup"); other matrices uniform with variance 1/fan-in; an untied head N(0, 0.001)
    """
    generator = torch.Generator().manual_seed(derive(seed, "initialize"))
    kind = model.config.init
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2:
                nn.init.ones_(parameter) if name.endswith("norm.weight") else nn.init.zeros_(parameter)
            elif name == "embedding.weight":
                parameter.normal_(0, model.config.hidden_size**-0.5 if kind == "xavier" else 0.02, generator=generator)
            elif name == "positions.weight":
                parameter.normal_(0, 0.01 if kind == "gpt2" else 0.02, generator=generator)
            elif name == "head.weight":
                parameter.normal_(0, 0.001 if kind == "zero_out" else 0.02, generator=generator)
            else:
                fill_matrix(parameter, name, kind, model.config.layers, generator)
        for table in (model.embedding, model.head):
            if table is not None:
                table.weight[model.config.vocab_size :] = 0


def fill_matrix(matrix: torch.Tensor, name: str, kind: str, layers: int, generator: torch.Generator) -> None:
    """Fill one matrix (out, in) inside a block, or one for each expert (experts, out, in)."""
    into_residual = name.endswith(RESIDUAL)
    if kind == "xavier":
        bound = math.sqrt(6 / (matrix.size(-1) + matrix.size(-2)))
        matrix.uniform_(-bound, bound, generator=generator)
    elif kind == "zero_out":
        bound = math.sqrt(3 / matrix.size(-1))
        matrix.zero_() if into_residual else matrix.uniform_(-bound, bound, generator=generator)
    else:
        scale = (2 * layers) ** -0.5 if kind == "gpt2" and into_residual else 1.0
        matrix.normal_(0, 0.02 * scale, generator=generator)
