"""Faults of a training step: what counts as one, what is done about it, and which samples are skipped for good.

Before each update its loss and gradient norm are checked. Both are sums over all ranks, so every rank detects the same
faults. Then the config decides between these actions:

    skip       no update, and on to the next batch; a skipped batch does not count as a step
    rollback   back to the last checkpoint's weights and data position; the bad batch and those around it are skipped
               (PaLM, Chowdhery et al. 2022, 5.1, goes back about 100 steps and skips 200 to 500 batches)
    stop       DivergedError (exit code 6); the last checkpoint is kept

The samples that a rollback skips are written to RUN/checkpoints/skipped-samples.json before training continues. So a
run that is killed afterwards reads the same samples in the same order, from whichever checkpoint it resumes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from gptctl.core import atomic
from gptctl.core.config import Settings, key
from gptctl.core.errors import DataError

SKIPPED_SAMPLES_FILE = "skipped-samples.json"

FaultKind = Literal["nonfinite", "spike"]
FaultAction = Literal["stop", "skip", "rollback", "warn"]


class FaultPolicy(Settings):
    """What happens when a loss or gradient is not finite, or a loss jumps."""

    on_nonfinite: Literal["stop", "skip", "rollback"] = key("stop", "Action on a loss or gradient that is not finite.")
    on_spike: Literal["warn", "skip", "rollback"] = key("warn", "Action on a loss spike.")
    spike_sigma: float = key(6.0, "Standard deviations above the mean loss that count as a spike.", gt=0)
    spike_window: int = key(128, "Updates over which mean and deviation are computed; 0 detects no spikes.", ge=0)
    max_skips: int = key(8, "Batches that may be skipped in a row before training stops.", ge=0)
    max_rollbacks: int = key(3, "Rollbacks to the same checkpoint before training stops.", ge=0)
    margin: int = key(
        16, "Batches before and after the bad one that a rollback skips too; doubled with each rollback.", ge=0
    )

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        actions, found = (self.on_nonfinite, self.on_spike), super().without_effect()
        if "skip" not in actions:
            found["max_skips"] = "where nothing is skipped"
        if "rollback" not in actions:
            found |= dict.fromkeys(("max_rollbacks", "margin"), "without a rollback")
        if not self.spike_window:
            found |= dict.fromkeys(("on_spike", "spike_sigma"), "with faults.spike_window 0")
        return found

    @property
    def may_roll_back(self) -> bool:
        """Return whether a checkpoint is needed before the first update."""
        return "rollback" in (self.on_nonfinite, self.on_spike)


@dataclass(frozen=True)
class SkippedSamples:
    """Samples [first, end) that training skips after a rollback."""

    first: int
    end: int
    rollback_step: int  # the step of the checkpoint that training went back to
    reason: FaultKind
    best: float | None = None  # the best evaluation so far, which may be later than rollback_step
    best_step: int = 0


def detect_fault(
    loss: float, grad_norm: float, recent_losses: Sequence[float], policy: FaultPolicy
) -> FaultKind | None:
    """Return what is wrong with a step's mean loss and gradient norm, if anything is.

    A spike lies more than spike_sigma standard deviations above the mean of the recent losses, of which there must be
    half a window (the rule of OLMo-core's SkipStepOptimizer).
    """
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        return "nonfinite"
    if not policy.spike_window or len(recent_losses) < max(2, policy.spike_window // 2):
        return None
    mean = math.fsum(recent_losses) / len(recent_losses)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in recent_losses) / (len(recent_losses) - 1))
    return "spike" if loss > mean + policy.spike_sigma * deviation else None


def append_loss(recent_losses: Sequence[float], loss: float, policy: FaultPolicy) -> list[float]:
    """Return the recent losses with one more, at most a window of them."""
    return [*recent_losses, loss][-policy.spike_window :] if policy.spike_window else []


def choose_action(kind: FaultKind, policy: FaultPolicy, consecutive_skips: int, rollbacks: int) -> FaultAction:
    """Return the action for a fault, given the skips in a row and the rollbacks to the last checkpoint so far."""
    action: FaultAction = policy.on_nonfinite if kind == "nonfinite" else policy.on_spike
    if (action == "skip" and consecutive_skips >= policy.max_skips) or (
        action == "rollback" and rollbacks >= policy.max_rollbacks
    ):
        return "stop"
    return action


def samples_to_skip(first: int, size: int, rollbacks: int, policy: FaultPolicy) -> tuple[int, int]:
    """Return the samples [first, end) to skip for a bad batch of `size`. The margin doubles with each rollback."""
    margin = policy.margin * 2**rollbacks * size
    return max(0, first - margin), first + size + margin


def next_batch_start(sample: int, size: int, skipped: Sequence[SkippedSamples]) -> int:
    """Return the first sample, from `sample` on, at which a batch of `size` touches no skipped sample."""
    for piece in sorted(skipped, key=lambda piece: piece.first):
        if sample < piece.end and sample + size > piece.first:
            sample = piece.end
    return sample


def read_skipped_samples(folder: Path) -> tuple[SkippedSamples, ...]:
    """Read what earlier rollbacks of this run skipped. Raises DataError (3) if the file is damaged."""
    path = folder / SKIPPED_SAMPLES_FILE
    if not path.exists():
        return ()
    try:
        return tuple(SkippedSamples(**entry) for entry in json.loads(path.read_bytes()))
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path} is damaged", "use --force to start afresh") from error


def write_skipped_samples(folder: Path, skipped: Sequence[SkippedSamples]) -> None:
    """Write what rollbacks skipped."""
    atomic.write_json(folder / SKIPPED_SAMPLES_FILE, [asdict(piece) for piece in skipped])
