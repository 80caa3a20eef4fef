"""When a step goes wrong: what counts as wrong, what is done about it, and which samples are passed over for good.

Before each update its loss and gradient norm are judged. Both are sums over all ranks, so every rank comes to the same
verdict. Then, by the config: the batch is skipped, training goes back to the last checkpoint, or it ends.

    skip       no update, on to the next batch; a skipped batch is not a step
    rollback   the last checkpoint's weights and data position again; on the way the bad batch and those around it are
               passed over (PaLM, Chowdhery et al. 2022, 5.1, goes back about 100 steps and skips 200 to 500 batches)
    stop       DivergedError (exit code 6), the last checkpoint stays

What a rollback passes over is written to RUN/checkpoints/passed-over.json before training goes on. So a run that is
killed afterwards reads the same samples again in the same order, from whichever checkpoint it resumes.
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

JOURNAL = "passed-over.json"

Kind = Literal["nonfinite", "spike"]
Action = Literal["stop", "skip", "rollback", "warn"]


class Faults(Settings):
    """What happens when a loss or gradient is not finite, or a loss jumps."""

    on_nonfinite: Literal["stop", "skip", "rollback"] = key("stop", "When a loss or gradient is not a finite number.")
    on_spike: Literal["warn", "skip", "rollback"] = key("warn", "When a batch's loss is far above the last ones.")
    spike_sigma: float = key(6.0, "Standard deviations above the mean that make a spike.", gt=0)
    spike_window: int = key(128, "Updates over which mean and deviation are taken; 0 looks for no spikes.", ge=0)
    max_skips: int = key(8, "Batches skipped in a row, after which training stops.", ge=0)
    max_rollbacks: int = key(3, "Rollbacks to one checkpoint, after which training stops.", ge=0)
    margin: int = key(16, "Batches before and after the bad one that a rollback passes over; doubled each time.", ge=0)

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
class PassedOver:
    """Samples [first, end) that training leaves out after a rollback to `to_step`."""

    first: int
    end: int
    to_step: int
    why: Kind
    best: float | None = None  # the best evaluation so far, which may be later than to_step
    best_step: int = 0


def judge(loss: float, norm: float, recent: Sequence[float], settings: Faults) -> Kind | None:
    """Say what is wrong with a step's mean loss and gradient norm, if anything.

    A spike lies more than spike_sigma standard deviations above the mean of the last losses, of which there must be
    half a window (the rule of OLMo-core's SkipStepOptimizer).
    """
    if not (math.isfinite(loss) and math.isfinite(norm)):
        return "nonfinite"
    if not settings.spike_window or len(recent) < max(2, settings.spike_window // 2):
        return None
    mean = math.fsum(recent) / len(recent)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in recent) / (len(recent) - 1))
    return "spike" if loss > mean + settings.spike_sigma * deviation else None


def remember(recent: Sequence[float], loss: float, settings: Faults) -> list[float]:
    """Return the last losses with one more, as many as a window holds."""
    return [*recent, loss][-settings.spike_window :] if settings.spike_window else []


def choose(kind: Kind, settings: Faults, skips_in_a_row: int, rollbacks: int) -> Action:
    """Say what is done, given how often it was done just now."""
    action: Action = settings.on_nonfinite if kind == "nonfinite" else settings.on_spike
    if (action == "skip" and skips_in_a_row >= settings.max_skips) or (
        action == "rollback" and rollbacks >= settings.max_rollbacks
    ):
        return "stop"
    return action


def around(first: int, size: int, rollbacks: int, settings: Faults) -> tuple[int, int]:
    """Return the samples [first, end) to pass over for a bad batch of `size`; its margin doubles with each rollback."""
    margin = settings.margin * 2**rollbacks * size
    return max(0, first - margin), first + size + margin


def next_sample(sample: int, size: int, passed_over: Sequence[PassedOver]) -> int:
    """Return where a batch of `size` samples begins that would begin at `sample`: behind all that it must not touch."""
    for piece in sorted(passed_over, key=lambda piece: piece.first):
        if sample < piece.end and sample + size > piece.first:
            sample = piece.end
    return sample


def read_journal(folder: Path) -> tuple[PassedOver, ...]:
    """Read what earlier rollbacks of this run passed over. Raises DataError (3) if the file is damaged."""
    path = folder / JOURNAL
    if not path.exists():
        return ()
    try:
        return tuple(PassedOver(**entry) for entry in json.loads(path.read_bytes()))
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path} is damaged", "use --force to start afresh") from error


def write_journal(folder: Path, passed_over: Sequence[PassedOver]) -> None:
    """Write down what rollbacks passed over, at once."""
    atomic.write_json(folder / JOURNAL, [asdict(piece) for piece in passed_over])
