"""Learning rate and batch size as pure functions of a run's progress: there is no state to save."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from gptctl.train.recipe import Recipe


def lr_factor(recipe: Recipe, full_batches: float, total_full_batches: float) -> float:
    """Return the learning rate of the update after `full_batches`, out of `total_full_batches`, as a share of the peak.

    A full batch is `batch_size` samples. Without a batch ramp it is a step. With one, warm-up and decay follow the
    tokens, as in GPT-3. After a linear warm-up the schedules differ:

    cosine    half a cosine down to min_lr_share, over decay_share of the steps (Loshchilov and Hutter 2017, "SGDR")
    linear    linear decay to min_lr_share, over decay_share of the steps
    wsd       constant, then linear decay over the last cooldown_share of the steps (Hu et al. 2024, "MiniCPM", 4);
              where that begins during the warm-up, the smaller of both
    constant  constant
    noam      the inverse square root of the step ("Attention Is All You Need", 5.3, with its peak scaled to 1)
    """
    warmup, end = recipe.warmup_steps, recipe.min_lr_share
    warmed = min(1.0, (full_batches + 1) / max(1, warmup))
    if recipe.schedule == "wsd":
        cooldown = max(1, round(total_full_batches * recipe.cooldown_share))
        cooled = end + (1 - end) * min(1.0, max(0.0, (total_full_batches - full_batches) / cooldown))
        return min(warmed, cooled)
    if full_batches < warmup:
        return warmed
    if recipe.schedule == "constant":
        return 1.0
    if recipe.schedule == "noam":
        return math.sqrt(max(warmup, 1) / (full_batches + 1))
    decayed = full_batches - warmup
    done = min(1.0, decayed / max(1, total_full_batches * recipe.decay_share - warmup))
    if recipe.schedule == "linear":
        return end + (1 - end) * (1 - done)
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * done))


def total_at(totals: Sequence[tuple[int, int]], step: int) -> int:
    """Return the total of steps that is planned at a step. `totals` are pairs of a step and the total planned there."""
    return max((first, total) for first, total in totals if first <= step)[1]


def planned_lr_factor(recipe: Recipe, totals: Sequence[tuple[int, int]], full_batches: float) -> float:
    """Return `lr_factor` of the update after `full_batches` where the total of steps was planned again on the way.

    `totals` are pairs of a step and the total planned there, the first at step 0. Each new total stretches or shortens
    what is left of the schedule, so the learning rate continues at its value and never rises after the warm-up.
    """
    planned = [tuple(samples_after(recipe, steps) / recipe.batch_size for steps in pair) for pair in totals]
    whole = planned[0][1]
    if len(planned) == 1 or full_batches < recipe.warmup_steps or recipe.schedule in ("constant", "noam"):
        return lr_factor(recipe, full_batches, whole)
    share, start, total = 0.0, 0.0, whole
    for new_start, new_total in planned[1:]:
        if new_start > full_batches:
            break
        share += (1 - share) * (new_start - start) / (total - start)
        start, total = new_start, new_total
    share += (1 - share) * (full_batches - start) / (total - start)
    return lr_factor(recipe, max(recipe.warmup_steps, share * whole), whole)


def batch_size(recipe: Recipe, samples: int) -> int:
    """Return the batch size, in sequences, of the update after training on `samples` sequences.

    A ramp grows with the tokens from ramp_start_batch to the full batch (Brown et al. 2020, "GPT-3", appendix B), in
    multiples of its start: so a number of ranks or micro-batches that divides the start divides every batch.
    """
    start, full = recipe.ramp_start_batch, recipe.batch_size
    tokens = samples * recipe.seq_len
    if not start or start >= full or tokens >= recipe.ramp_tokens:
        return full
    return start + (full - start) * tokens // recipe.ramp_tokens // start * start


@lru_cache(maxsize=256)
def samples_after(recipe: Recipe, steps: int) -> int:
    """Count the sequences of the first `steps` updates."""
    samples, step = _ramp(recipe, steps, math.inf)
    return samples + (steps - step) * recipe.batch_size


def steps_for(recipe: Recipe, samples: int) -> int:
    """Count the updates that train on `samples` sequences; the last one may train on more."""
    ramped, step = _ramp(recipe, math.inf, samples)
    return step + max(0, math.ceil((samples - ramped) / recipe.batch_size))


def planned_steps(recipe: Recipe, max_tokens: int) -> int:
    """Return the number of updates that a recipe and a budget of tokens (0 is none) allow."""
    if not max_tokens:
        return recipe.steps
    return min(recipe.steps, steps_for(recipe, math.ceil(max_tokens / recipe.seq_len)))


def _ramp(recipe: Recipe, max_steps: float, max_samples: float) -> tuple[int, int]:
    """Return the sequences and the updates of a ramp, up to its end or a limit."""
    samples = step = 0
    while step < max_steps and samples < max_samples and (size := batch_size(recipe, samples)) < recipe.batch_size:
        samples, step = samples + size, step + 1
    return samples, step
