"""How rotary positions are scaled for contexts longer than those of pretraining, as settings. Needs no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from gptctl.core.config import Settings, key

RopeType = Literal["none", "linear", "dynamic", "llama3", "yarn", "longrope"]
USED_BY: dict[str, tuple[str, ...]] = {
    "factor": ("linear", "dynamic", "llama3", "yarn", "longrope"),
    "original_max_seq_len": ("llama3", "yarn", "longrope"),
    "low_freq_factor": ("llama3",),
    "high_freq_factor": ("llama3",),
    "attention_factor": ("yarn", "longrope"),
    "beta_fast": ("yarn",),
    "beta_slow": ("yarn",),
    "mscale": ("yarn",),
    "mscale_all_dim": ("yarn",),
    "truncate": ("yarn",),
    "short_factor": ("longrope",),
    "long_factor": ("longrope",),
}


class RopeScaling(Settings):
    """The scaling of rotary positions. Keys and methods are those of transformers' rope_parameters."""

    rope_type: RopeType = key("none", "Method; dynamic changes only sequences that are longer than max_seq_len.")
    factor: float = key(1.0, "How many times longer the context became.", ge=1)
    original_max_seq_len: int = key(0, "Context of pretraining; 0 means max_seq_len.", ge=0)
    low_freq_factor: float = key(
        1.0, "Wavelengths above the original context divided by this are scaled by factor.", gt=0
    )
    high_freq_factor: float = key(4.0, "Wavelengths below the original context divided by this are not scaled.", gt=0)
    attention_factor: float = key(0.0, "Factor of the rotated queries and keys; 0 means the method's own.", ge=0)
    beta_fast: float = key(32.0, "Pairs that rotate more often than this within the original context stay.", gt=0)
    beta_slow: float = key(1.0, "Pairs that rotate less often than this within the original context are scaled.", gt=0)
    mscale: float = key(0.0, "Strength of the method's own attention factor; 0 means the default.", ge=0)
    mscale_all_dim: float = key(0.0, "Strength that the attention factor is divided by; 0 means none.", ge=0)
    truncate: bool = key(True, "Round the bounds between scaled and unscaled pairs to whole pairs.")
    short_factor: tuple[float, ...] = key((), "Divisors of the frequencies up to the original context.")
    long_factor: tuple[float, ...] = key((), "Divisors of the frequencies in sequences beyond the original context.")

    @model_validator(mode="after")
    def fits(self) -> RopeScaling:
        """Raise ValueError for values that do not fit together."""
        if self.rope_type == "llama3" and self.high_freq_factor <= self.low_freq_factor:
            raise ValueError("rope_scaling.high_freq_factor must be above low_freq_factor")
        if min((*self.short_factor, *self.long_factor), default=1.0) <= 0:
            raise ValueError("rope_scaling.short_factor and long_factor must be positive")
        return self

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        unused = [name for name, types in USED_BY.items() if self.rope_type not in types]
        return super().without_effect() | dict.fromkeys(unused, f"with rope_type {self.rope_type}")
