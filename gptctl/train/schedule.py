"""The learning rate as a pure function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from gptctl.train.recipe import Recipe


def lr_share(recipe: Recipe, step: int, steps: int) -> float:
    """Give the learning rate of update `step` (from 0) out of `steps`, as a share of the peak.

    A linear warm-up is followed by:
    cosine    half a cosine to min_lr_share at the end (Loshchilov and Hutter 2017, "SGDR")
    linear    a line to min_lr_share at the end
    wsd       the peak, then a line over the last cooldown_share of the steps (Hu et al. 2024, "MiniCPM", 4)
    constant  the peak
    noam      the inverse square root of the step ("Attention Is All You Need", 5.3, with its peak scaled to 1)
    """
    warmup = recipe.warmup_steps
    if step < warmup:
        return (step + 1) / warmup
    if recipe.schedule == "constant":
        return 1.0
    if recipe.schedule == "noam":
        return math.sqrt(max(warmup, 1) / (step + 1))
    end = recipe.min_lr_share
    if recipe.schedule == "wsd":
        cooldown = max(1, round(steps * recipe.cooldown_share))
        return end + (1 - end) * min(1.0, (steps - step) / cooldown)
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    if recipe.schedule == "linear":
        return end + (1 - end) * (1 - done)
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * done))
