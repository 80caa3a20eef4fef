"""AdamW: Adam with decoupled weight decay (Kingma and Ba 2015; Loshchilov and Hutter 2019)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer

from gptctl.train.recipe import Recipe

Named = tuple[str, nn.Parameter]
BLOCK = re.compile(r"\bblocks\.(\d+)\.")


def build(
    parameters: Mapping[str, nn.Parameter], recipe: Recipe, engine: Any, precision: str = "fp32"
) -> list[Optimizer]:
    """Return the one optimizer of all parameters, or of a rank's parts of them."""
    return [over(parameters.items(), recipe)]


def over(parameters: Iterable[Named], recipe: Recipe) -> Optimizer:
    """Return AdamW over some parameters: matrices decay, norms and biases do not.

    Embeddings decay only if the recipe says so: GPT-1 decays "all non bias or gain weights" (4.1); elsewhere a rare
    token's row would shrink while it is not seen.
    """
    named = [(name, parameter) for name, parameter in parameters if parameter.requires_grad]
    scales = lr_scales([name for name, _ in named], recipe.layer_decay)
    groups: dict[tuple[bool, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in named:
        decays = parameter.ndim >= 2 and (recipe.decay_embeddings or not is_table(name))
        groups[decays, scales[name]].append(parameter)
    settings = [
        {
            "params": groups[decays, scale],
            "weight_decay": recipe.weight_decay if decays else 0.0,
            "peak_lr": recipe.lr * scale,
        }
        for decays, scale in sorted(groups, reverse=True)
    ]
    return AdamW(settings, recipe.lr, recipe.betas, recipe.eps, fused=True)


def is_table(name: str) -> bool:
    """Tell the tables that tokens and positions are looked up in."""
    return name.rpartition(".")[0].endswith(("embedding", "positions"))


def lr_scales(names: Sequence[str], decay: float) -> dict[str, float]:
    """Give each parameter's share of the learning rate: decay to the power of the blocks above it.

    Discriminative fine-tuning (Howard and Ruder 2018, "ULMFiT", 3.2), whose decay is 1/2.6.
    """
    blocks = {name: int(found[1]) for name in names if (found := BLOCK.search(name))}
    count = 1 + max(blocks.values(), default=-1)
    above = {name: count - 1 - block for name, block in blocks.items()}
    return {name: decay ** above.get(name, count if is_table(name) else 0) for name in names}
