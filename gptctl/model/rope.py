"""Rotary positions (Su et al. 2021, "RoFormer", 3.2.2), and their scaling for longer contexts.

Frequencies and angles are computed in float32 as in transformers, whose models were trained with the rounding errors of
that: at position 1,000,000 a cosine differs by up to 0.08 from the exact one.

Shapes: B batch, T time, H heads, D head dimension, R the rotated part of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from gptctl.model.config import ModelConfig
from gptctl.model.rope_scaling import RopeScaling

RopeTables = tuple[Tensor, Tensor]  # cosines and sines
PARTS = ("cosines", "sines")
FLOAT_BYTES = 4


def all_rope_tables(config: ModelConfig) -> dict[str, Tensor]:
    """Return all tables of a model with rotary positions by name: cosines and sines of each kind of layer."""
    length = config.max_seq_len
    found = {"rope": rope_tables(config, length)}
    if "sliding" in config.layer_pattern and config.sliding_rope_theta:
        found["sliding_rope"] = sliding_rope_tables(config, length)
    if switches_to_long(config):
        found["long_rope"] = rope_tables(config, length, long=True)
    return {
        f"{name}_{part}": table for name, tables in found.items() for part, table in zip(PARTS, tables, strict=True)
    }


def position_table_bytes(config: ModelConfig) -> int:
    """Return the size of the tables of a model's positions, which are computed and not stored."""
    if config.positions == "rope":
        return config.max_seq_len * config.rotary_dim * FLOAT_BYTES * (1 + switches_to_long(config))
    return config.max_seq_len * config.hidden_size * FLOAT_BYTES if config.positions == "sinusoidal" else 0


def look_up_rope(tables: Mapping[str, Tensor], config: ModelConfig, positions: Tensor) -> dict[str, RopeTables | None]:
    """Return the cosines and sines (B or 1, 1, T, R/2) of positions (T,) or (B, T), by the name of rope_name."""
    T, half = positions.size(-1), config.rotary_dim // 2
    found: dict[str, RopeTables | None] = {"": None}
    for name in ("rope", "sliding_rope"):
        if f"{name}_cosines" in tables:
            cosines, sines = (tables[f"{name}_{part}"][positions].view(-1, 1, T, half) for part in PARTS)
            found[name] = cosines, sines
    if "long_rope_cosines" in tables:
        is_long = (positions.amax(-1) >= config.rope_scaling.original_max_seq_len).view(-1, 1, 1, 1)
        long = [tables[f"long_rope_{part}"][positions].view(-1, 1, T, half) for part in PARTS]
        short = found["rope"]
        assert short is not None
        found["rope"] = torch.where(is_long, long[0], short[0]), torch.where(is_long, long[1], short[1])
    return found


def switches_to_long(config: ModelConfig) -> bool:
    """Return whether sequences beyond LongRoPE's original context have other frequencies than shorter ones."""
    scaling = config.rope_scaling
    if config.positions != "rope":
        return False
    return scaling.rope_type == "longrope" and 0 < scaling.original_max_seq_len < config.max_seq_len


def rope_tables(config: ModelConfig, length: int, *, long: bool = False) -> RopeTables:
    """Return the cosines and sines of the positions below `length`, each (length, R/2).

    With `long` they are for sequences beyond the original context of LongRoPE.
    """
    frequencies, factor = scaled_frequencies(config, long)
    angles = torch.arange(length).float()[:, None] * frequencies
    return (angles.cos() * factor, angles.sin() * factor) if factor != 1 else (angles.cos(), angles.sin())


def sliding_rope_tables(config: ModelConfig, length: int) -> RopeTables:
    """Return the tables of sliding layers that have a base of their own. They are not scaled."""
    angles = torch.arange(length).float()[:, None] * plain_frequencies(config.sliding_rope_theta, config.rotary_dim)
    return angles.cos(), angles.sin()


def apply_rope(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotate each pair (i, i + R/2) of x (B, H, T, D) by its position's angle, given as (B or 1, 1, T, R/2).

    The entries after the first R stay as they are.
    """
    rotary_dim = 2 * cosines.size(-1)
    if rotary_dim < x.size(-1):
        return torch.cat((apply_rope(x[..., :rotary_dim], cosines, sines), x[..., rotary_dim:]), dim=-1)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosines - second * sines, second * cosines + first * sines), dim=-1).type_as(x)


def plain_frequencies(theta: float, dim: int) -> Tensor:
    """Return theta^(-2i/dim) for each pair i: (dim/2,)."""
    return 1.0 / theta ** (torch.arange(0, dim, 2).float() / dim)


def scaled_frequencies(config: ModelConfig, long: bool = False) -> tuple[Tensor, float]:
    """Return the frequencies (R/2,) of a model, and the factor of its cosines and sines."""
    scaling, dim = config.rope_scaling, config.rotary_dim
    frequencies = plain_frequencies(config.rope_theta, dim)
    original = scaling.original_max_seq_len or config.max_seq_len
    if scaling.rope_type == "linear":  # Chen et al. 2023, "Extending Context Window of LLMs via Position Interpolation"
        return frequencies / scaling.factor, 1.0
    if scaling.rope_type == "llama3":
        return llama3_frequencies(frequencies, scaling, original), 1.0
    if scaling.rope_type == "yarn":
        return yarn_frequencies(frequencies, scaling, original, config.rope_theta, dim), yarn_factor(scaling)
    if scaling.rope_type == "longrope":
        divisors = torch.tensor(scaling.long_factor if long else scaling.short_factor)
        powers = config.rope_theta ** (torch.arange(0, dim, 2).float() / dim)
        return 1.0 / (divisors * powers), longrope_factor(scaling, original)
    return frequencies, 1.0


def llama3_frequencies(frequencies: Tensor, scaling: RopeScaling, original: int) -> Tensor:
    """Divide low frequencies by the factor, keep high ones, and interpolate between them (Llama 3.1)."""
    low, high, factor = scaling.low_freq_factor, scaling.high_freq_factor, scaling.factor
    wavelengths = 2 * math.pi / frequencies
    smooth = (original / wavelengths - low) / (high - low)
    between = (1 - smooth) * frequencies / factor + smooth * frequencies
    scaled = torch.where(wavelengths > original / low, frequencies / factor, frequencies)
    is_between = ~(wavelengths < original / high) & ~(wavelengths > original / low)
    return torch.where(is_between, between, scaled)


def yarn_frequencies(frequencies: Tensor, scaling: RopeScaling, original: int, theta: float, dim: int) -> Tensor:
    """Divide the frequencies of pairs that rotate seldom by the factor (Peng et al. 2023, "YaRN", 3.2)."""

    def pair_of(rotations: float) -> float:
        return dim * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low, high = pair_of(scaling.beta_fast), pair_of(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    high = high + 0.001 if low == high else high
    ramp = ((torch.arange(dim // 2).float() - low) / (high - low)).clamp(0, 1)
    kept = 1 - ramp
    interpolated = 1.0 / (scaling.factor * theta ** (torch.arange(0, dim, 2).float() / dim))
    return interpolated * (1 - kept) + frequencies * kept


def yarn_factor(scaling: RopeScaling) -> float:
    """Return YaRN's factor of rotated queries and keys (3.4)."""

    def strength(mscale: float) -> float:
        return 0.1 * mscale * math.log(scaling.factor) + 1.0 if scaling.factor > 1 else 1.0

    if scaling.attention_factor:
        return scaling.attention_factor
    if scaling.mscale and scaling.mscale_all_dim:
        return strength(scaling.mscale) / strength(scaling.mscale_all_dim)
    return strength(1.0)


def longrope_factor(scaling: RopeScaling, original: int) -> float:
    """Return LongRoPE's factor of rotated queries and keys (Ding et al. 2024; Phi-3)."""
    if scaling.attention_factor:
        return scaling.attention_factor
    return math.sqrt(1 + math.log(scaling.factor) / math.log(original)) if scaling.factor > 1 else 1.0
