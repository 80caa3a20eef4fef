"""How rows are scored: what the command line decides and every kind of rows understands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from gptctl.evals.scoring.averages import Averaging

Ci: TypeAlias = Literal["auto", "bootstrap", "none"]
Norm: TypeAlias = Literal["raw", "chars", "bytes", "tokens"]
NORMS: tuple[Norm, ...] = ("raw", "chars", "bytes", "tokens")


@dataclass(frozen=True)
class Options:
    """What is computed from rows, and how.

    metrics: names of files in gptctl/evals/metrics; empty for those that suit the rows.
    labels: the label set; None takes the labels seen. probability_labels: whose probability stands where in `probs`.
    bins: of the calibration error. ci: "auto" takes a closed form where there is one, "bootstrap" never does.
    norm: what a choice's log-likelihood is divided by.
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
        """The label set: as chosen, as the probabilities have it, or None for the labels seen."""
        return self.labels or self.probability_labels
