"""The model and recipe with the lowest expected loss for a time, a size, or a number of tokens. Needs no torch.

Loss follows L(N, D) = E + A / N^a + B / D^b (Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models",
3.3). N counts the weights that each token is multiplied with: those of the blocks and the output head. At a vocabulary
of 8,192 the head is most of a small model, so leaving it out, as Kaplan et al. 2020 do, would favour wide models. D
counts the trained tokens; a token that is trained on again counts less (Muennighoff et al. 2023, "Scaling
Data-Constrained Language Models", 3.1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from gptctl.model.config import ModelConfig
from gptctl.train.planning.estimate import flops_per_token
from gptctl.train.recipe import Recipe


class LossFit(NamedTuple):
    """The constants of L(N, D) = irreducible + size_scale / N^size_power + data_scale / D^data_power."""

    irreducible: float
    size_scale: float
    size_power: float
    data_scale: float
    data_power: float


# tests/bench/scaling_ladder.py was fitted on two texts, from 2.5e12 FLOPs and 100 steps on, with equal powers
# (docs/scaling.md). The scales and the power of both are near these, with which 9 tokens for a weight are the best use
# of computation. The irreducible loss is that of a text, 0.8 and 2.7; here it is between them.
FIT = LossFit(irreducible=1.75, size_scale=92.0, size_power=0.34, data_scale=192.0, data_power=0.34)
LEAST_TOKENS = 1e-6  # for which a loss is computed; less than 1, so that more speed is better even then
REPEAT_TOKENS = 15.4  # epochs after which repeated tokens have lost most of their value: R*_D of Muennighoff et al.

# The widths to choose among. One rule gives the depth: a layer for each 64 of width, as in nanochat, and at least 2.
WIDTHS = (48, 64, 96, 128, 192, 256, 320, 384, 512, 768, 1024, 1280, 1536)
WIDTH_PER_LAYER = 64
SMALLEST_DEPTH = 2

# The recipe that was tuned with 2 layers of width 64 on 0.5 million tokens, and how it scales. docs/scaling.md has the
# losses of the choices that were tried.
REFERENCE_WIDTH = 64
REFERENCE_TOKENS = 1e6
REFERENCE_BATCH = 2048  # tokens
SMALLEST_BATCH = 1024
BATCH_POWER = 0.4  # the best batch grows with the tokens to the power 0.383 (Bergsma et al. 2025, "Power Lines")
MATRIX_LR = 0.02  # Muon's update has the same size for all widths
LR = 4e-2  # of embeddings and norms; falls with the square root of the width, as in nanochat
COOLDOWN_SHARE = 0.6
# Muon's momentum averages over 1 / (1 - momentum) steps: usually 20, but 7 were better for a run of 240 steps.
SHORTEST_MOMENTUM, LONGEST_MOMENTUM = 0.8, 0.95
REFERENCE_MOMENTUM, REFERENCE_STEPS = 0.85, 240


@dataclass(frozen=True)
class Candidate:
    """A model and the recipe that trains it."""

    model: ModelConfig
    recipe: Recipe

    @property
    def parameters(self) -> int:
        """The weights that each token is multiplied with."""
        return multiplied_weights(self.model)

    @property
    def flops_per_token(self) -> int:
        """The floating-point operations of training on one token."""
        return flops_per_token(self.model, self.recipe.seq_len)

    @property
    def tokens(self) -> int:
        """The tokens of the whole run."""
        return self.recipe.steps * self.recipe.batch_size * self.recipe.seq_len


def multiplied_weights(model: ModelConfig) -> int:
    """Count the weights that each token is multiplied with: the N of the fit."""
    return model.matrix_parameters() + model.vocab_size * model.hidden_size


def effective_tokens(trained_tokens: float, unique_tokens: float) -> float:
    """Return how many unique tokens are worth as much as `trained_tokens` that repeat `unique_tokens`.

    D' = U + U R* (1 - exp(-R / R*)), with R the repetitions after the first epoch and R* = 15.4 (Muennighoff et al.
    2023, equation 5).
    """
    if trained_tokens <= unique_tokens:
        return trained_tokens
    repetitions = trained_tokens / unique_tokens - 1
    return unique_tokens * (1 + REPEAT_TOKENS * (1 - math.exp(-repetitions / REPEAT_TOKENS)))


def predicted_loss(parameters: int, trained_tokens: float, unique_tokens: float, fit: LossFit = FIT) -> float:
    """Return the expected val loss, in nats per token.

    `parameters` are those of `Candidate.parameters`.
    """
    tokens = max(LEAST_TOKENS, effective_tokens(trained_tokens, unique_tokens))
    return (
        fit.irreducible
        + fit.size_scale * math.pow(parameters, -fit.size_power)
        + fit.data_scale * math.pow(tokens, -fit.data_power)
    )


def optimal_tokens(parameters: int, fit: LossFit = FIT) -> int:
    """Return the tokens for which a model of so many multiplied weights is the best use of computation.

    At a fixed product N D the loss is lowest where a A / N^a = b B / D^b.
    """
    size_term = fit.size_power * fit.size_scale * math.pow(parameters, -fit.size_power)
    return round(math.pow(fit.data_power * fit.data_scale / size_term, 1 / fit.data_power))


def depth_for(width: int) -> int:
    """Return the layers of a model of some width."""
    return max(SMALLEST_DEPTH, -(-width // WIDTH_PER_LAYER))


def model_of_width(width: int, vocab_size: int, seq_len: int) -> ModelConfig:
    """Return the model of a width: the block of `char-modern`, which transformers opens."""
    depth = depth_for(width)
    return ModelConfig(
        layers=depth,
        heads=depth,
        hidden_size=width,
        intermediate_size=4 * width,
        max_seq_len=seq_len,
        vocab_size=vocab_size,
        norm="rmsnorm",
        norm_eps=1e-6,
        positions="rope",
        activation="relu2",
        bias=False,
        qk_norm=True,
        tie_embeddings=True,
        init="zero_out",
    )


def context_for(train_tokens: float) -> int:
    """Return the context for a number of training tokens: 512, 1024 from 100 million, 2048 from 1 billion."""
    return 512 if train_tokens < 1e8 else 1024 if train_tokens < 1e9 else 2048


def batch_for(train_tokens: float) -> int:
    """Return the tokens of a batch, a power of two."""
    best = REFERENCE_BATCH * (max(train_tokens, 1.0) / REFERENCE_TOKENS) ** BATCH_POWER
    return max(SMALLEST_BATCH, int(2 ** min(21, round(math.log2(best)))))


def momentum_for(steps: int) -> float:
    """Return Muon's momentum for a number of steps: the steps that it averages over grow with their square root."""
    momentum = 1 - (1 - REFERENCE_MOMENTUM) * math.sqrt(REFERENCE_STEPS / steps)
    return round(min(LONGEST_MOMENTUM, max(SHORTEST_MOMENTUM, momentum)), 3)


def recipe_for(model: ModelConfig, train_tokens: int) -> Recipe:
    """Return the recipe that trains a model on a number of tokens."""
    seq_len = model.max_seq_len
    batch = max(1, batch_for(train_tokens) // seq_len)
    steps = max(1, round(train_tokens / (batch * seq_len)))
    return Recipe(
        optimizer="muon",
        schedule="wsd",
        warmup_steps=min(40, steps // 40),
        cooldown_share=COOLDOWN_SHARE,
        min_lr_share=0.0,
        lr=LR * (REFERENCE_WIDTH / model.hidden_size) ** 0.5,
        matrix_lr=MATRIX_LR,
        momentum=momentum_for(steps),
        betas=(0.9, 0.99),
        weight_decay=0.1,
        grad_clip=1.0,
        batch_size=batch,
        seq_len=seq_len,
        steps=steps,
    )


def candidate_of_width(width: int, vocab_size: int, train_tokens: int) -> Candidate:
    """Return the model of a width, with its recipe."""
    model = model_of_width(width, vocab_size, context_for(train_tokens))
    return Candidate(model, recipe_for(model, train_tokens))


def candidates(vocab_size: int, train_tokens: int) -> list[Candidate]:
    """Return the models to choose among, smallest first, each with its recipe for a number of tokens."""
    return [candidate_of_width(width, vocab_size, train_tokens) for width in WIDTHS]


def choose(speeds: Mapping[Candidate, float], seconds: float, unique_tokens: int) -> Candidate:
    """Return the candidate with the lowest expected loss after some seconds of training.

    `speeds` are tokens per second. The recipe that is returned is for the tokens of these seconds; its context is that
    of the candidate.
    """

    def loss(candidate: Candidate) -> float:
        return predicted_loss(candidate.parameters, speeds[candidate] * seconds, unique_tokens)

    best = min(speeds, key=loss)
    return Candidate(best.model, recipe_for(best.model, max(1, int(speeds[best] * seconds))))


def for_size(parameters: int, vocab_size: int, train_tokens: int = 0) -> Candidate:
    """Return the candidate whose number of parameters is nearest, as a ratio.

    `parameters` counts all weights, as `ModelConfig.parameters` does. With `train_tokens` 0 the recipe is for the
    tokens at which this size is the best use of computation.
    """

    def distance(candidate: Candidate) -> float:
        return abs(math.log(candidate.model.parameters() / parameters))

    nearest = min(candidates(vocab_size, train_tokens or 1), key=distance)
    tokens = train_tokens or optimal_tokens(nearest.parameters)
    return candidate_of_width(nearest.model.hidden_size, vocab_size, tokens)


def for_tokens(train_tokens: int, vocab_size: int) -> Candidate:
    """Return the candidate for which a number of tokens is nearest to the best use of computation, as a ratio."""

    def distance(candidate: Candidate) -> float:
        return abs(math.log(optimal_tokens(candidate.parameters) / train_tokens))

    return min(candidates(vocab_size, train_tokens), key=distance)
