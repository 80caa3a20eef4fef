"""Specifications of GPUs, from their makers' data sheets: the numbers that a dry run computes with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Accelerator = Literal["a100", "h100", "h200", "b200", "l4", "rtx4090"]


@dataclass(frozen=True)
class GpuSpec:
    """What one GPU can do."""

    flops: float  # dense bfloat16 operations per second
    memory: float  # bytes
    link: float  # bytes per second to other GPUs of the same node
    network: float  # bytes per second to another node, as usually installed


GPU_SPECS: dict[Accelerator, GpuSpec] = {
    "a100": GpuSpec(312e12, 80e9, 300e9, 25e9),
    "h100": GpuSpec(989e12, 80e9, 450e9, 50e9),
    "h200": GpuSpec(989e12, 141e9, 450e9, 50e9),
    "b200": GpuSpec(2250e12, 180e9, 900e9, 50e9),
    "l4": GpuSpec(121e12, 24e9, 32e9, 12.5e9),
    "rtx4090": GpuSpec(165e12, 24e9, 32e9, 12.5e9),
}
EFFICIENCY = 0.4  # share of `flops` that training reaches: nanoGPT, litgpt and torchtitan report 0.35 to 0.5
EFFICIENT_LINK = 0.8  # share of `link` and `network` that a collective reaches
