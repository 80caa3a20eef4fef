"""What preference tuning learns from a pair of answers: the loss and its settings. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gptctl.core.config import Settings, key

LossName = Literal["dpo", "ipo", "orpo", "simpo"]
WITH_REFERENCE = ("dpo", "ipo")
BETA = {"dpo": 0.1, "ipo": 0.1, "orpo": 0.1, "simpo": 2.0}


class PreferenceOptions(Settings):
    """The settings of the preference losses, named as in TRL."""

    beta: float | None = key(
        None,
        "How much the answers count: against the reference (dpo, ipo), beside the chosen answer's likelihood (orpo), "
        "or as the scale of the rewards (simpo). Default: 0.1, for simpo 2.",
        gt=0,
    )
    label_smoothing: float = key(0.0, "Probability that a pair is the wrong way round (dpo, simpo).", ge=0, lt=0.5)
    simpo_gamma: float = key(0.5, "By how much the chosen answer's reward should be higher (simpo).", ge=0)


@dataclass(frozen=True)
class PreferenceLoss:
    """A loss with its settings."""

    name: LossName
    beta: float
    label_smoothing: float = 0.0
    simpo_gamma: float = 0.5

    @classmethod
    def from_options(cls, name: LossName, options: PreferenceOptions) -> PreferenceLoss:
        """Return a loss with the settings that are given, and its own beta without one."""
        beta = BETA[name] if options.beta is None else options.beta
        return cls(name, beta, options.label_smoothing, options.simpo_gamma)

    @property
    def has_reference(self) -> bool:
        """Whether the loss compares the model with the one before training."""
        return self.name in WITH_REFERENCE


def unused_options(name: LossName) -> dict[str, str]:
    """Return the keys of PreferenceOptions that a loss does not read, each with the reason."""
    unused = [] if name in ("dpo", "simpo") else ["label_smoothing"]
    unused += [] if name == "simpo" else ["simpo_gamma"]
    return {f"preference.{option}": f"with --loss {name}" for option in unused}
