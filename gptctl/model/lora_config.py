"""What LoRA adapts in a model, and how. Needs no torch."""

from __future__ import annotations

from gptctl.core.config import Settings, key


class LoraOptions(Settings):
    """Which layers are adapted, and how."""

    alpha: float = key(0.0, "The update is scaled by alpha/rank; 0 means twice the rank.", ge=0)
    dropout: float = key(0.0, "Dropout on the input of the update.", ge=0, lt=1)
    dora: bool = key(False, "Learn the magnitude of each output separately (DoRA).")
    targets: tuple[str, ...] = key(("blocks.*",), "Linear layers to adapt, as glob patterns of their names.")


class LoraConfig(LoraOptions):
    """A low-rank update: its rank, which layers are adapted, and how."""

    rank: int = key(0, "Rank of the update of each matrix; 0 trains the full matrices.", ge=0)

    @property
    def scale(self) -> float:
        """The factor alpha / rank of B A."""
        return (self.alpha or 2 * self.rank) / self.rank
