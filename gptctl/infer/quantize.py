"""int8 weights for the CPU: one scale for each row of a matrix, one for each row of what it is multiplied with.

A weight w is kept as round(w / s), s the largest |w| of its output channel over 127; an activation x likewise, with its
own token's scale, taken anew each time. Products and sums are exact in int32 (Jacob et al. 2018, "Quantization and
Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2.2), so a token's result does not depend
on the tokens beside it. One scale for a whole batch, as torch's own dynamic quantization takes, would make it so.

Shapes: M rows (tokens), K inputs, N outputs.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from gptctl.core.errors import MachineError

LEVELS = 127  # of each sign
REDUCED = 63  # for activations on x86 without VNNI, which adds pairs of products in 16 bits
TINY = 1e-30  # divides a row of zeros
ENGINES = ("x86", "onednn")  # whose kernels take activations in float32


class Int8Linear:
    """y = x W^T + b with W in int8, packed once for the processor.

    On 2 cores of Zen 4 all products of GPT-2's 124M weights with one token take 10 ms, in bfloat16 24, in float32 48.
    torch's weight-only kernel, `_int_mm` and the onednn engine were no faster at 1 and slower at 8 tokens.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Quantize and pack a matrix (N, K); the original is not kept."""
        self.bias = bias
        self.levels = activation_levels()
        self.packed = pack(*quantize_rows(weight))

    def __call__(self, x: Tensor) -> Tensor:
        """Map (..., K) to (..., N), float32."""
        rows = x.flatten(0, -2)  # (M, K)
        peaks = rows.abs().amax(-1, keepdim=True).clamp_min_(TINY)  # (M, 1); a tenth of the time of vector_norm
        product = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
        y: Tensor = product(rows / peaks, 1 / self.levels, self.levels + 1, self.packed)  # (M, N)
        y = y.mul_(peaks) if self.bias is None else torch.addcmul(self.bias, y, peaks)
        return y.view(*x.shape[:-1], -1)


class Int8Embedding:
    """A table of vectors in int8, a scale for each."""

    def __init__(self, weight: Tensor) -> None:
        """Quantize a table (V, C); the original is not kept."""
        self.rows, scales = quantize_rows(weight)
        self.scales = scales[:, None]

    def __call__(self, tokens: Tensor) -> Tensor:
        """Return the vectors (..., C) of tokens (...), float32."""
        return self.rows[tokens] * self.scales[tokens]


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return a matrix (N, K) as int8 and its rows' scales (N,), so that int8 * scale is near it."""
    weight = weight.detach().float()
    scales = weight.abs().amax(1).clamp_min(TINY) / LEVELS
    return (weight / scales[:, None]).round_().to(torch.int8), scales


def pack(whole: Tensor, scales: Tensor) -> torch.ScriptObject:
    """Arrange an int8 matrix (N, K) as the processor's kernel reads it. Raises MachineError (4) where there is none."""
    zeros = torch.zeros(len(scales), dtype=torch.int64)
    usual, known = torch.backends.quantized.engine, torch.backends.quantized.supported_engines
    found = [engine for engine in ENGINES if engine in known]
    if whole.device.type != "cpu" or not found:
        raise MachineError("int8 weights need a CPU that torch has kernels for", "use --set precision=bf16 instead")
    with warnings.catch_warnings():  # torch means to replace these types; their kernels are its fastest ones by far
        warnings.filterwarnings("ignore", message=".*deprecated")
        torch.backends.quantized.engine = found[0]
        try:
            tensor = torch._make_per_channel_quantized_tensor(whole, scales.double(), zeros, 0)
            packed: torch.ScriptObject = torch.ops.quantized.linear_prepack(tensor, None)
        finally:
            torch.backends.quantized.engine = usual
    return packed


def activation_levels() -> int:
    """Return the steps of each sign that an activation may have, so that sums of products can't overflow."""
    found = torch.cpu.get_capabilities()
    return LEVELS if found.get("avx512_vnni") or found.get("architecture") != "x86_64" else REDUCED
