"""Learning rate and batch size as pure functions of how far training is: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from gptctl.train.recipe import Recipe


def lr_factor(recipe: Recipe, step: float, steps: float) -> float:
    """Return the learning rate of update `step` (from 0) out of `steps`, as a share of the peak.

    Under a batch ramp both are counted in updates of the full batch (samples / batch_size), so that warm-up and decay
    follow the tokens, as GPT-3's do. A linear warm-up is followed by:
    cosine    half a cosine to min_lr_share (Loshchilov and Hutter 2017, "SGDR"), over decay_share of the steps
    linear    a line to min_lr_share, likewise
    wsd       the peak, then a line over the last cooldown_share of the steps (Hu et al. 2024, "MiniCPM", 4)
    constant  the peak
    noam      the inverse square root of the step ("Attention Is All You Need", 5.3, with its peak scaled to 1)
    """
    warmup = recipe.warmup_steps
    if step < warmup:
        return min(1.0, (step + 1) / warmup)
    if recipe.schedule == "constant":
        return 1.0
    if recipe.schedule == "noam":
        return math.sqrt(max(warmup, 1) / (step + 1))
    end = recipe.min_lr_share
    if recipe.schedule == "wsd":
        cooldown = max(1, round(steps * recipe.cooldown_share))
        return end + (1 - end) * min(1.0, max(0.0, (steps - step) / cooldown))
    done = min(1.0, (step - warmup) / max(1, steps * recipe.decay_share - warmup))
    if recipe.schedule == "linear":
        return end + (1 - end) * (1 - done)
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * done))


def batch_size(recipe: Recipe, samples: int) -> int:
    """Return the sequences of the update that follows after training on `samples` sequences.

    A ramp grows with the tokens from ramp_start_batch to the full batch (Brown et al. 2020, "GPT-3", appendix B), in
    whole multiples of its start: what divides the start among ranks and micro-batches divides the rest.
    """
    start, full = recipe.ramp_start_batch, recipe.batch_size
    tokens = samples * recipe.seq_len
    if not start or start >= full or tokens >= recipe.ramp_tokens:
        return full
    return start + (full - start) * tokens // recipe.ramp_tokens // start * start


def samples_after(recipe: Recipe, steps: int) -> int:
    """Count the sequences of the first `steps` updates."""
    samples, step = _ramp(recipe, steps, math.inf)
    return samples + (steps - step) * recipe.batch_size


def steps_for(recipe: Recipe, samples: int) -> int:
    """Count the updates that `samples` sequences take; the last one may go past them."""
    ramped, step = _ramp(recipe, math.inf, samples)
    return step + max(0, math.ceil((samples - ramped) / recipe.batch_size))


def _ramp(recipe: Recipe, max_steps: float, max_samples: float) -> tuple[int, int]:
    """Walk up the ramp to its end or to a bound; give the sequences and the updates so far."""
    samples = step = 0
    while step < max_steps and samples < max_samples and (size := batch_size(recipe, samples)) < recipe.batch_size:
        samples, step = samples + size, step + 1
    return samples, step
