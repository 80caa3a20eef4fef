"""int8 weights for the CPU, with a scale for each output channel, and activations with a scale for each token.

A weight w is stored as round(w / s), where s is the largest |w| of its output channel divided by 127. Activations are
quantized the same way for each token when they are used. Products and sums are exact in int32 (Jacob et al. 2018,
"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2.2), so the result of a
token does not depend on the rest of the batch. It would with one scale for the whole batch, as in torch's own dynamic
quantization.

Shapes: M rows (tokens), K inputs, N outputs.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from gptctl.core.errors import MachineError

LEVELS = 127  # quantization steps of each sign
REDUCED_LEVELS = 63  # of activations on x86 without VNNI, which adds pairs of products in 16 bits
TINY = 1e-30  # avoids a division by zero for a row of zeros
ENGINES = ("x86", "onednn")  # the engines of torch whose kernels accept activations in float32


class Int8Linear:
    """y = x W^T + b with W in int8, packed once for the CPU.

    On 2 cores of Zen 4 the products of GPT-2's 124M weights with one token take 10 ms; 24 ms in bfloat16, 48 ms in
    float32. torch's weight-only kernel, `_int_mm` and the onednn engine were no faster at 1 token, and slower at 8.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Quantize and pack a matrix (N, K) without keeping a reference to it."""
        self.bias = bias
        self.levels = activation_levels()
        self.packed = pack(*quantize_rows(weight))

    def __call__(self, x: Tensor) -> Tensor:
        """Map (..., K) to (..., N), float32."""
        rows = x.flatten(0, -2)  # (M, K)
        peaks = rows.abs().amax(-1, keepdim=True).clamp_min_(TINY)  # (M, 1); ten times faster than vector_norm
        product = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
        y: Tensor = product(rows / peaks, 1 / self.levels, self.levels + 1, self.packed)  # (M, N)
        y = y.mul_(peaks) if self.bias is None else torch.addcmul(self.bias, y, peaks)
        return y.view(*x.shape[:-1], -1)


class Int8Embedding:
    """An embedding in int8 with a scale for each row."""

    def __init__(self, weight: Tensor) -> None:
        """Quantize a table (V, C) without keeping a reference to it."""
        self.rows, scales = quantize_rows(weight)
        self.scales = scales[:, None]

    def __call__(self, tokens: Tensor) -> Tensor:
        """Return the embeddings (..., C) of token ids (...), float32."""
        return self.rows[tokens] * self.scales[tokens]


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return a matrix (N, K) as int8 and the scales (N,) of its rows; int8 * scale approximates the matrix."""
    weight = weight.detach().float()
    scales = weight.abs().amax(1).clamp_min(TINY) / LEVELS
    return (weight / scales[:, None]).round_().to(torch.int8), scales


def pack(quantized: Tensor, scales: Tensor) -> torch.ScriptObject:
    """Pack an int8 matrix (N, K) for the kernel of this CPU. Raises MachineError (4) if torch has none for it."""
    zeros = torch.zeros(len(scales), dtype=torch.int64)
    usual, known = torch.backends.quantized.engine, torch.backends.quantized.supported_engines
    found = [engine for engine in ENGINES if engine in known]
    if quantized.device.type != "cpu" or not found:
        raise MachineError("int8 weights need a CPU that torch has kernels for", "use --set precision=bf16 instead")
    with warnings.catch_warnings():  # torch will replace these types, but their kernels are its fastest ones
        warnings.filterwarnings("ignore", message=".*deprecated")
        torch.backends.quantized.engine = found[0]
        try:
            tensor = torch._make_per_channel_quantized_tensor(quantized, scales.double(), zeros, 0)
            packed: torch.ScriptObject = torch.ops.quantized.linear_prepack(tensor, None)
        finally:
            torch.backends.quantized.engine = usual
    return packed


def activation_levels() -> int:
    """Return the quantization steps of each sign for activations, so that sums of products cannot overflow."""
    found = torch.cpu.get_capabilities()
    return LEVELS if found.get("avx512_vnni") or found.get("architecture") != "x86_64" else REDUCED_LEVELS
