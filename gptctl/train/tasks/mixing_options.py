"""The options of commands that read several sources: how often each is read. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from gptctl.core.config import Settings, StageConfig, flag, key
from gptctl.core.errors import UsageError
from gptctl.train.data.phases import MixturePhase


class PhaseOptions(Settings):
    """Weights that hold from a point of the run on."""

    start: float = key(..., "Share of the run's samples before the phase.", gt=0, lt=1)
    weights: tuple[float, ...] = key(..., "Weights of the sources, as --weights has them.")


class MixtureOptions(Settings):
    """How the weights of several sources change during training."""

    phases: tuple[PhaseOptions, ...] = key(
        (), "Phases with other weights, each with start (a share of the run's samples) and weights."
    )


class MixingOptions(StageConfig):
    """The weights of several sources."""

    weights: tuple[float, ...] = flag(
        (), "How often each of several sources is read, relative to the sum. Default: as it has tokens.",
        panel="Training",
    )  # fmt: skip
    mixture: MixtureOptions = key(MixtureOptions(), "How the weights of several sources change during training.")

    def without_weights(self, sources: int) -> dict[str, str]:
        """Return the keys of the mixture, with the reason, if there are not several sources."""
        return dict.fromkeys(("weights", "mixture.phases"), "without several sources") if sources < 2 else {}

    def mixture_phases(self, tokens: Sequence[int]) -> tuple[MixturePhase, ...]:
        """Return the phases of a mixture of sources with so many tokens each, the first of which starts at 0.

        Raises UsageError (2) if weights are too many, too few, negative, not finite or all zero, or phases are not in
        order.
        """
        weights = self.weights or tuple(map(float, tokens))
        check_weights("--weights", weights, len(tokens))
        phases = [MixturePhase(0.0, weights)]
        for number, phase in enumerate(self.mixture.phases):
            check_weights(f"mixture.phases[{number}].weights", phase.weights, len(tokens))
            phases.append(MixturePhase(phase.start, phase.weights))
        if any(one.start >= other.start for one, other in pairwise(phases)):
            raise UsageError("mixture.phases are not in the order of their start", "give each a later start")
        return tuple(phases)


def check_weights(where: str, weights: Sequence[float], sources: int) -> None:
    """Raise UsageError (2) for weights that are no weights of this number of sources."""
    if len(weights) != sources:
        raise UsageError(
            f"{where} has {len(weights)} weights for {sources} sources", "give one weight for each, in their order"
        )
    if any(weight < 0 or not math.isfinite(weight) for weight in weights) or not any(weights):
        shown = ", ".join(f"{weight:g}" for weight in weights)
        raise UsageError(
            f"{where} must be numbers of at least 0, and one of them more, not {shown}",
            "weights are relative: 7,2,1 and 0.7,0.2,0.1 mean the same",
        )
