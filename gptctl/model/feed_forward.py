"""The feed-forward network of a block, with its activation ("Attention Is All You Need", 3.3).

Shapes: B batch, T time, C hidden size, F intermediate size.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from gptctl.model.config import ModelConfig

Function = Callable[[Tensor], Tensor]
GELU_TANH: Function = partial(F.gelu, approximate="tanh")  # Hendrycks and Gimpel 2016; the form of GPT-1 and GPT-2


def relu_squared(x: Tensor) -> Tensor:
    """Return max(0, x)^2 (So et al. 2021, "Primer")."""
    return F.relu(x).square()


# The function that each activation has, of the gate if it is a gated one (Shazeer 2020, "GLU Variants Improve
# Transformer").
ACTIVATIONS: dict[str, Function] = {
    "relu": F.relu,
    "relu2": relu_squared,
    "gelu_tanh": GELU_TANH,
    "gelu": F.gelu,
    "swiglu": F.silu,
    "geglu": F.gelu,
    "geglu_tanh": GELU_TANH,
}


class FeedForward(nn.Module):
    """FFN(x) = max(0, x W_1 + b_1) W_2 + b_2, for each position by itself (3.3, equation 2); W_1 is up, W_2 down.

    Later families have other activations than max(0, .), or multiply act(x W_g) by x W_1, where W_g is gate.
    """

    def __init__(self, config: ModelConfig, intermediate_size: int = 0) -> None:
        super().__init__()
        C, inner = config.hidden_size, intermediate_size or config.intermediate_size
        bias = config.has_bias("feed_forward")
        self.activation = config.activation
        self.up = nn.Linear(C, inner, bias=bias)
        self.gate = nn.Linear(C, inner, bias=bias) if config.is_gated else None
        self.down = nn.Linear(inner, C, bias=bias)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Map (B, T, C) to (B, T, C); the None is where a mixture of experts returns its router logits."""
        hidden, activation = self.up(x), ACTIVATIONS[self.activation]  # (B, T, F)
        hidden = activation(hidden) if self.gate is None else activation(self.gate(x)) * hidden
        return self.down(hidden), None
