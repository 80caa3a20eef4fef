"""Mixture of experts: many feed-forward networks, and a router that sends each token to a few of them.

Shazeer et al. 2017, "Outrageously Large Neural Networks". Every block has one, as in Jiang et al. 2024, "Mixtral of
Experts", 2.1. It is dropless (Gale et al. 2022, "MegaBlocks"): an expert processes all tokens that are routed to it.

Shapes: B batch, T time, N = B * T tokens, C hidden size, F intermediate size, E experts, K experts per token.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptctl.model.config import ModelConfig
from gptctl.model.feed_forward import FeedForward

ALIGNMENT = 16  # bytes; F.grouped_mm requires rows of a multiple of this size


class Experts(nn.Module):
    """E feed-forward networks down(silu(gate x) * up x) with stacked matrices: gate and up (E, F, C), down (E, C, F).

    The matrices of expert i are gate[i], up[i] and down[i], (out, in) as in nn.Linear.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        E, C, F = config.experts, config.hidden_size, config.intermediate_size
        self.gate = nn.Parameter(torch.empty(E, F, C))
        self.up = nn.Parameter(torch.empty(E, F, C))
        self.down = nn.Parameter(torch.empty(E, C, F))

    def forward(self, x: Tensor, counts: Tensor) -> Tensor:
        """Map (rows, C) to (rows, C). The first counts[0] rows belong to expert 0, the next counts[1] to expert 1."""
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        matmul = grouped_matmul if can_group(x, self.gate) else looped_matmul
        hidden = F.silu(matmul(x, self.gate, counts)) * matmul(x, self.up, counts)  # (rows, F)
        return matmul(hidden, self.down, counts)


def can_group(x: Tensor, weight: Tensor) -> bool:
    """Return whether F.grouped_mm supports these tensors: bfloat16 on any device, float32 on the CPU without compiling.

    On the CPU it equals the loop bit for bit and is as fast. torch.compile and fake tensors support only bfloat16.
    """
    aligned = all(size * x.element_size() % ALIGNMENT == 0 for size in weight.shape[1:])
    return aligned and (x.dtype == torch.bfloat16 or (x.is_cpu and not torch.compiler.is_compiling()))


def grouped_matmul(x: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    """Multiply the rows of x (rows, in) by their experts' matrices in weight (E, out, in) in one call: (rows, out)."""
    return F.grouped_mm(x, weight.to(x.dtype).mT, offs=counts.cumsum(0, dtype=torch.int32))


def looped_matmul(x: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    """Compute grouped_matmul one expert after the other. A GPU must send the counts first."""
    pieces = zip(torch.split(x, counts.tolist()), weight.to(x.dtype).unbind(), strict=True)
    return torch.cat([F.linear(piece, matrix) for piece, matrix in pieces])


class Router(nn.Linear):
    """The logits of E experts for each token. fsdp gathers this module by itself, because it stays in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to (..., E) in float32, as near-ties decide the routing (Fedus et al. 2022, 2.4)."""
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x.float(), self.weight.float())


class MixtureOfExperts(nn.Module):
    """y = sum over the K experts with the largest router logits of softmax(those K logits) * expert(x).

    Without norm_topk_prob the softmax is that of all logits. A shared expert adds sigmoid(shared_gate x) * expert(x)
    (Qwen Team 2024, "Qwen1.5-MoE").
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.top_k = config.experts_per_token
        self.router = Router(config.hidden_size, config.experts, bias=False)
        self.experts = Experts(config)
        self.norm_topk_prob = config.norm_topk_prob
        shared = config.shared_expert_intermediate_size
        self.shared_expert = FeedForward(config, shared) if shared else None
        self.shared_gate = nn.Linear(config.hidden_size, 1, bias=False) if shared else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, T, C) to (B, T, C); return the router logits (B, T, E), too."""
        logits = self.router(x)
        shares, chosen = choose_experts(logits.flatten(0, 1), self.top_k, self.norm_topk_prob)  # (N, K)
        # Each token appears once for each of its experts, sorted by expert. Sorting and its inverse only permute, so
        # the sum of K outputs below has a fixed order on every device, which index_add does not have on a GPU.
        order = chosen.flatten().argsort(stable=True)  # (N * K,)
        counts = (chosen.flatten()[:, None] == torch.arange(logits.size(-1), device=x.device)).sum(0)  # (E,)
        rows = self.experts(x.flatten(0, 1)[order // self.top_k], counts)  # (N * K, C)
        outputs = rows[order.argsort()].view(*chosen.shape, -1)  # (N, K, C)
        mixed = (outputs * shares[..., None]).sum(1).view_as(x).type_as(x)
        return self.add_shared(x, mixed), logits

    def add_shared(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Add the output of the shared expert, if there is one, to that of the others (B, T, C)."""
        if self.shared_expert is None or self.shared_gate is None:
            return mixed
        added: Tensor = torch.sigmoid(self.shared_gate(x)) * self.shared_expert(x)[0]
        return mixed + added


def choose_experts(logits: Tensor, top_k: int, norm_topk_prob: bool) -> tuple[Tensor, Tensor]:
    """Return the weights of the chosen experts and their numbers, both (N, K), for router logits (N, E)."""
    top, chosen = logits.topk(top_k)
    if norm_topk_prob:
        return top.softmax(-1), chosen
    return logits.softmax(-1).gather(-1, chosen), chosen


def router_losses(logits: Tensor, counted: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Return the load-balancing loss and the z-loss of one router, each summed over tokens.

    logits (B, T, E); counted (B, T) bool, True for tokens whose target counts, so that padding has no effect.

    Load balancing: E sum_i f_i P_i, where f_i is the share of choices that are expert i and P_i its mean probability
    (Fedus et al. 2022, "Switch Transformers", 2.2, equation 4). It is 1 where all experts are used equally. It is
    computed over each sequence by itself (DeepSeek-AI 2024, "DeepSeek-V3", 2.1.2, equation 17) and weighted by the
    counted tokens of the sequence. Over a batch it would depend on how the batch is split into micro-batches and ranks.

    z-loss: logsumexp(logits)^2, which keeps the logits small (Zoph et al. 2022, "ST-MoE", equation 5).
    """
    E = logits.size(-1)
    weight = counted[..., None].to(logits.dtype)  # (B, T, 1)
    chosen = torch.zeros_like(logits).scatter(-1, logits.topk(top_k).indices, 1.0) * weight
    tokens = weight.sum(1).clamp(min=1)  # (B, 1)
    shares = chosen.sum(1) / (top_k * tokens)  # f (B, E), a constant: a choice has no gradient
    probabilities = (logits.softmax(-1) * weight).sum(1)  # P (B, E) times the tokens of the sequence
    return E * (shares * probabilities).sum(), (logits.logsumexp(-1).square() * weight[..., 0]).sum()
