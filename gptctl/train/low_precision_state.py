"""Optimizer state in bfloat16: AdamW whose running means take half the memory.

Computation is in float32. A mean of squares with a decay of 0.999 changes by less than the spacing of bfloat16 numbers
in a step, so rounding to the nearest would freeze it. Rounding up or down at random, with the mean kept, does not
(Gupta et al. 2015, "Deep Learning with Limited Numerical Precision", 3; torchao's AdamW does the same for weights).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.adamw import adamw

from gptctl.core.seeds import derive

MEANS = ("exp_avg", "exp_avg_sq")


class AdamWLowPrecision(AdamW):
    """AdamW with state in bfloat16. The random numbers of a step depend on its number and the parameter only."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        assert closure is None
        number = 0
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                number += 1
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = torch.zeros(())
                    state |= {name: torch.zeros_like(parameter, dtype=torch.bfloat16) for name in MEANS}
                state["step"] = step = state["step"].cpu()  # a resumed one may be on the parameter's device
                means = [state[name].float() for name in MEANS]
                adamw(
                    [parameter], [parameter.grad], [means[0]], [means[1]], [], [step], foreach=False,
                    amsgrad=False, beta1=beta1, beta2=beta2, lr=group["lr"], weight_decay=group["weight_decay"],
                    eps=group["eps"], maximize=False,
                )  # fmt: skip
                seed = derive(0, "optimizer state", int(step.item()), number)
                generator = torch.Generator(parameter.device).manual_seed(seed)
                for name, mean in zip(MEANS, means, strict=True):
                    state[name].copy_(round_stochastically(mean, generator))


def round_stochastically(values: Tensor, generator: torch.Generator) -> Tensor:
    """Round float32 values in place to numbers that bfloat16 has: up or down, more probably to the nearer one."""
    bits = values.view(torch.int32)  # the upper half of the bits is the bfloat16 number
    noise = torch.randint(0, 2**16, bits.shape, dtype=torch.int32, device=bits.device, generator=generator)
    bits.add_(noise).bitwise_and_(-(2**16))
    return values
