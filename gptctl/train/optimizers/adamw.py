"""AdamW: Adam with decoupled weight decay (Kingma and Ba 2015; Loshchilov and Hutter 2019)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from torch import nn
from torch.optim import AdamW, Optimizer

from gptctl.train.low_precision_state import AdamWLowPrecision
from gptctl.train.recipe import Recipe
from gptctl.train.strategies import Strategy

NamedParameter = tuple[str, nn.Parameter]
BLOCK = re.compile(r"\bblocks\.(\d+)\.")


def build(
    parameters: Mapping[str, nn.Parameter], recipe: Recipe, strategy: Strategy, precision: str = "fp32"
) -> list[Optimizer]:
    """Return one optimizer of all parameters."""
    return [build_adamw(parameters.items(), recipe)]


def build_adamw(parameters: Iterable[NamedParameter], recipe: Recipe) -> Optimizer:
    """Return AdamW for some parameters. Matrices decay, norms and biases do not.

    Embeddings decay only if the recipe says so, as in GPT-1, which decays "all non bias or gain weights" (4.1).
    Otherwise a rare token's row would shrink in the steps without the token.
    """
    named = [(name, parameter) for name, parameter in parameters if parameter.requires_grad]
    scales = lr_scales([name for name, _ in named], recipe.layer_decay)
    groups: dict[tuple[bool, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in named:
        decays = parameter.ndim >= 2 and (recipe.decay_embeddings or not is_embedding(name))
        groups[decays, scales[name]].append(parameter)
    options = [
        {
            "params": groups[decays, scale],
            "weight_decay": recipe.weight_decay if decays else 0.0,
            "peak_lr": recipe.lr * scale,
        }
        for decays, scale in sorted(groups, reverse=True)
    ]
    if recipe.optimizer_state_dtype == "bf16":
        return AdamWLowPrecision(options, recipe.lr, recipe.betas, recipe.eps)
    return AdamW(options, recipe.lr, recipe.betas, recipe.eps, fused=True)


def is_embedding(name: str) -> bool:
    """Return whether a parameter is the embedding table of tokens or positions."""
    return name.rpartition(".")[0].endswith(("embedding", "positions"))


def lr_scales(names: Sequence[str], decay: float) -> dict[str, float]:
    """Return each parameter's learning rate as a share of the peak: decay to the power of the blocks above it.

    Discriminative fine-tuning (Howard and Ruder 2018, "ULMFiT", 3.2), whose decay is 1/2.6.
    """
    blocks = {name: int(found[1]) for name in names if (found := BLOCK.search(name))}
    count = 1 + max(blocks.values(), default=-1)
    above = {name: count - 1 - block for name, block in blocks.items()}
    return {name: decay ** above.get(name, count if is_embedding(name) else 0) for name in names}
