"""Mixture of experts: many feed-forward parts, of which a router sends each token to a few.

Shazeer et al. 2017, "Outrageously Large Neural Networks"; in every block as in Jiang et al. 2024, "Mixtral of Experts",
2.1. Dropless (Gale et al. 2022, "MegaBlocks"): an expert takes all tokens that are sent to it, however many.

Shapes: B batch, T time, N = B * T tokens, C width, F feed-forward size, E experts, K experts per token.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptctl.model.config import ModelConfig

ALIGNMENT = 16  # bytes: what torch's grouped product demands of a row


class Experts(nn.Module):
    """E feed-forward parts down(silu(gate x) * up x), each matrix stacked: gate and up (E, F, C), down (E, C, F).

    Expert i's matrices are gate[i], up[i] and down[i], (out, in) as nn.Linear has them.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        E, C, F = config.experts, config.hidden_size, config.intermediate_size
        self.gate = nn.Parameter(torch.empty(E, F, C))
        self.up = nn.Parameter(torch.empty(E, F, C))
        self.down = nn.Parameter(torch.empty(E, C, F))

    def forward(self, x: Tensor, counts: Tensor) -> Tensor:
        """Map (rows, C) to (rows, C), where the first counts[0] rows are expert 0's, the next counts[1] expert 1's."""
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        product = grouped if can_group(x, self.gate) else looped
        hidden = F.silu(product(x, self.gate, counts)) * product(x, self.up, counts)  # (rows, F)
        return product(hidden, self.down, counts)


def can_group(x: Tensor, weight: Tensor) -> bool:
    """Return whether torch's grouped product takes these: bfloat16 anywhere, float32 on a CPU that runs it as it comes.

    On the CPU it equals the loop bit for bit and is as fast; torch.compile and fake tensors know it in bfloat16 alone.
    """
    aligned = all(size * x.element_size() % ALIGNMENT == 0 for size in weight.shape[1:])
    return aligned and (x.dtype == torch.bfloat16 or (x.is_cpu and not torch.compiler.is_compiling()))


def grouped(x: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    """Multiply each expert's rows of x (rows, in) by its matrix of weight (E, out, in), in one call: (rows, out)."""
    return F.grouped_mm(x, weight.to(x.dtype).mT, offs=counts.cumsum(0, dtype=torch.int32))


def looped(x: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    """Do the same one expert after the other; waits for the counts, which a GPU must send first."""
    pieces = zip(torch.split(x, counts.tolist()), weight.to(x.dtype).unbind(), strict=True)
    return torch.cat([F.linear(piece, matrix) for piece, matrix in pieces])


class MixtureOfExperts(nn.Module):
    """y = sum over the K experts with the largest router logits of softmax(those K logits) * expert(x)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.chosen_count = config.experts_per_token
        self.router = nn.Linear(config.hidden_size, config.experts, bias=False)
        self.experts = Experts(config)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, T, C) to (B, T, C); give the router's logits (B, T, E) too."""
        logits = self.route(x)
        top, chosen = logits.flatten(0, 1).topk(self.chosen_count)  # (N, K)
        # Each token once for each expert it goes to, expert by expert. Sorting and its inverse only permute, so adding
        # up K outputs below has a fixed order on every device, which index_add has not on a GPU.
        order = chosen.flatten().argsort(stable=True)  # (N * K,)
        counts = (chosen.flatten()[:, None] == torch.arange(logits.size(-1), device=x.device)).sum(0)  # (E,)
        rows = self.experts(x.flatten(0, 1)[order // self.chosen_count], counts)  # (N * K, C)
        outputs = rows[order.argsort()].view(*chosen.shape, -1)  # (N, K, C)
        mixed = (outputs * top.softmax(-1)[..., None]).sum(1)
        return mixed.view_as(x).type_as(x), logits

    def route(self, x: Tensor) -> Tensor:
        """Return the router's logits (B, T, E), in float32: near-ties decide who learns (Fedus et al. 2022, 2.4)."""
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x.float(), self.router.weight.float())


def router_losses(logits: Tensor, counted: Tensor, chosen_count: int) -> tuple[Tensor, Tensor]:
    """Return the load-balancing loss and the z-loss of one router, each summed over tokens.

    logits (B, T, E); counted (B, T) bool, the tokens whose target counts: padding has no say.

    Balance: E sum_i f_i P_i, where f_i is the share of choices that fell on expert i and P_i its mean probability
    (Fedus et al. 2022, "Switch Transformers", 2.2, equation 4); 1 where all experts are used alike. It is computed over
    each sequence alone (DeepSeek-AI 2024, "DeepSeek-V3", 2.1.2, equation 17) and weighted by the sequence's counted
    tokens. Over a batch it would depend on how the batch is cut into micro-batches and ranks; so it does not.

    z-loss: logsumexp(logits)^2, which keeps them small (Zoph et al. 2022, "ST-MoE", equation 5).
    """
    E = logits.size(-1)
    weight = counted[..., None].to(logits.dtype)  # (B, T, 1)
    chosen = torch.zeros_like(logits).scatter(-1, logits.topk(chosen_count).indices, 1.0) * weight
    tokens = weight.sum(1).clamp(min=1)  # (B, 1)
    shares = chosen.sum(1) / (chosen_count * tokens)  # f (B, E), constant: a choice has no gradient
    probabilities = (logits.softmax(-1) * weight).sum(1)  # P (B, E) times the sequence's tokens
    return E * (shares * probabilities).sum(), (logits.logsumexp(-1).square() * weight[..., 0]).sum()
