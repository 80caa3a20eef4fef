"""What processors are sold as: figures for a dry run that has none of them. From their makers' data sheets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Accelerator = Literal["a100", "h100", "h200", "b200", "l4", "rtx4090"]


@dataclass(frozen=True)
class Facts:
    """`flops`: bfloat16 products a second, dense; `memory` in bytes; `link`: bytes a second that one sends to others
    of its machine; `network`: bytes a second to another machine, as usually installed."""

    flops: float
    memory: float
    link: float
    network: float


ACCELERATORS: dict[Accelerator, Facts] = {
    "a100": Facts(312e12, 80e9, 300e9, 25e9),
    "h100": Facts(989e12, 80e9, 450e9, 50e9),
    "h200": Facts(989e12, 141e9, 450e9, 50e9),
    "b200": Facts(2250e12, 180e9, 900e9, 50e9),
    "l4": Facts(121e12, 24e9, 32e9, 12.5e9),
    "rtx4090": Facts(165e12, 24e9, 32e9, 12.5e9),
}
EFFICIENCY = 0.4  # share of `flops` that training reaches: nanoGPT, litgpt and torchtitan report 0.35 to 0.5
EFFICIENT_LINK = 0.8  # share of `link` and `network` that a collective reaches
