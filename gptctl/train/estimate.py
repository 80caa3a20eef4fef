"""What a training run needs, in closed form: no GPU, no torch, no data. For --dry-run."""

from __future__ import annotations

from typing import Any

from gptctl.model.config import ModelConfig
from gptctl.train.recipe import Recipe

FLOAT_BYTES = 4  # parameters, gradients and optimizer state are kept in single precision


def estimate(model: ModelConfig, recipe: Recipe, ranks: int = 1, micro_batch_size: int = 0) -> dict[str, Any]:
    """Give parameters, tokens_per_step, flops_per_step, memory_bytes_per_rank and bytes_communicated per step and rank.

    FLOPs: 6 per token and weight that is multiplied with, forward and backward (Kaplan et al. 2020, "Scaling Laws",
    2.1), plus 12 * layers * width * seq_len per token for attention, halved because of the causal mask.
    Communication: a ring sends 2 (N - 1) / N times the gradients (Patarasuk and Yuan 2009).
    """
    parameters = model.parameters()
    tokens = recipe.batch_size * recipe.seq_len
    head = model.vocab_size * model.width
    weights = model.matrix_parameters() + head
    attention = 6 * model.layers * model.width * recipe.seq_len
    micro = micro_batch_size or -(-recipe.batch_size // ranks)
    memory = {
        "weights": FLOAT_BYTES * parameters,
        "gradients": FLOAT_BYTES * parameters,
        "optimizer": FLOAT_BYTES * optimizer_floats(model, recipe),
        "activations": FLOAT_BYTES * activation_floats(model, micro * recipe.seq_len),
    }
    return {
        "parameters": parameters,
        "ranks": ranks,
        "steps": recipe.steps,
        "tokens_per_step": tokens,
        "tokens": tokens * recipe.steps,
        "flops_per_step": tokens * (6 * weights + attention),
        "memory_bytes_per_rank": sum(memory.values()),
        "memory": memory,
        "bytes_communicated": 2 * (ranks - 1) * FLOAT_BYTES * parameters // ranks,
    }


def optimizer_floats(model: ModelConfig, recipe: Recipe) -> int:
    """Count the numbers an optimizer keeps: two per parameter for Adam, one per hidden matrix entry for Muon."""
    adam = 2 * model.parameters()
    return adam - model.matrix_parameters() if recipe.optimizer == "muon" else adam


def activation_floats(model: ModelConfig, tokens: int) -> int:
    """Count what one forward pass keeps for the backward pass; attention weights are recomputed, not kept.

    Per block and token: the inputs of both norms and of both parts (4 C), q, k, v and the attention's output
    (2 C + 2 of the key heads' width), and the feed-forward part's hidden layer before and after its non-linearity.
    Logits and their gradient are held once each.
    """
    keys = model.key_heads * model.head_width
    hidden = model.feed_forward * (4 if model.activation == "swiglu" else 2)
    per_block = 6 * model.width + 2 * keys + hidden
    dropout = 2 * model.width if model.dropout else 0
    return tokens * (model.layers * (per_block + dropout) + 2 * model.width + 2 * model.padded_vocab_size)
