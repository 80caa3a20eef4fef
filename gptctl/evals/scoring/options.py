"""How predictions are scored: the options that every prediction type shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from gptctl.evals.scoring.averages import Averaging

Ci: TypeAlias = Literal["auto", "bootstrap", "none"]
Norm: TypeAlias = Literal["raw", "chars", "bytes", "tokens"]
NORMS: tuple[Norm, ...] = ("raw", "chars", "bytes", "tokens")


@dataclass(frozen=True)
class ScoringOptions:
    """Which metrics are computed, and how.

    metrics: names of files in gptctl/evals/metrics; empty for the defaults of the prediction type.
    labels: the label set; None takes the labels seen.
    probability_labels: the label of each entry of `probs`, in order; None if it is not known.
    bins: bins of the calibration error.
    ci: "auto" uses a closed form where there is one, "bootstrap" always resamples, "none" computes no intervals.
    norm: what the log-likelihood of a choice is divided by.
    per_class, confusion: whether the report contains them.
    """

    metrics: tuple[str, ...] = ()
    averaging: Averaging = field(default_factory=Averaging)
    labels: tuple[str, ...] | None = None
    probability_labels: tuple[str, ...] | None = None
    bins: int = 15
    ci: Ci = "auto"
    seed: int = 0
    norm: Norm = "raw"
    per_class: bool = True
    confusion: bool = True

    @property
    def label_set(self) -> tuple[str, ...] | None:
        """Return the chosen labels, else those of the probabilities, else None for the labels seen."""
        return self.labels or self.probability_labels
