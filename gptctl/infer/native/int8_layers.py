"""Layers of a decoder in int8 whose products, norms, activations and attention are computed by int8_kernels.c.

It computes what gptctl/infer/decoder.py and quantize.py compute; read those to understand it. A layer of a decoder is
four products and one attention, each one call: norms, biases, activations and the residual are part of the products.

Shapes: B batch, T new tokens, M rows, K inputs, N outputs, C hidden size, H heads, G key-value heads, D head dimension.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gptctl.infer.native.library import load_library
from gptctl.infer.quantize import quantize_rows
from gptctl.model.norms import RMSNormPlusOne

NO_NORM, LAYER_NORM, RMS_NORM = range(3)
ACTIVATIONS = {"": 0, "relu": 1, "relu2": 2, "gelu_tanh": 3, "geglu_tanh": 3, "gelu": 4, "geglu": 4, "swiglu": 5}
GROUP = 4  # inputs that one instruction multiplies and adds
INPUTS = 16  # a multiple of them is stored
VECTORS = 2  # of outputs that are computed together


class LinearArguments(ctypes.Structure):
    """`Linear` of int8_kernels.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("weights", "scales", "sums", "bias", "norm_weight", "norm_bias")),
        *((name, ctypes.c_int64) for name in ("inputs", "padded_inputs", "outputs", "units")),
        ("norm_eps", ctypes.c_float),
        *((name, ctypes.c_int32) for name in ("norm", "activation", "gated")),
    )


class AttentionArguments(ctypes.Structure):
    """`Attention` of int8_kernels.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("query_norm", "key_norm")),
        *((name, ctypes.c_float) for name in ("norm_eps", "scale", "softcap", "clip")),
        *((name, ctypes.c_int32) for name in ("heads", "kv_heads", "head_dim", "window")),
    )


class NativeLinear:
    """y = f(norm(x) W^T + b) + residual with W in int8; gated, y = f(norm(x) V^T + c) * (norm(x) W^T + b)."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        *,
        gate: tuple[Tensor, Tensor | None] | None = None,
        norm: nn.Module | None = None,
        activation: str = "",
    ) -> None:
        """Quantize and pack a matrix (N, K), and that of a gate, without keeping a reference to them."""
        library = load_library()
        assert library is not None
        self.product, unit = library.product, VECTORS * library.lanes()
        self.inputs, self.outputs = weight.size(1), weight.size(0)
        parts = [pack(*part, unit) for part in ((gate, (weight, bias)) if gate else ((weight, bias),))]
        self.weights, self.scales, self.sums, self.bias = (interleave(tensors) for tensors in zip(*parts, strict=True))
        kind, self.norm_weight, self.norm_bias, eps = norm_arguments(norm)
        self.arguments = LinearArguments(
            *(address(t) for t in (self.weights, self.scales, self.sums)),
            address(self.bias if bias is not None else None), address(self.norm_weight), address(self.norm_bias),
            self.inputs, self.weights.size(1) * GROUP, self.outputs, self.weights.size(0),
            eps, kind, ACTIVATIONS[activation], gate is not None,
        )  # fmt: skip
        self.pointer = ctypes.addressof(self.arguments)

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Map (..., K) to (..., N), float32."""
        x = x.contiguous()
        y = torch.empty(*x.shape[:-1], self.outputs)
        rows = x.numel() // self.inputs
        self.product(
            self.pointer, x.data_ptr(), None if residual is None else residual.data_ptr(), y.data_ptr(), rows,
            torch.get_num_threads(),
        )  # fmt: skip
        return y


class NativeAttention:
    """Attention of a few new tokens to a cache, which it appends their keys and values to."""

    def __init__(
        self,
        heads: int,
        kv_heads: int,
        head_dim: int,
        norms: Sequence[nn.Module | None],
        scale: float,
        softcap: float,
        clip: float,
        window: int,
    ) -> None:
        """Take the numbers of a layer. `norms` are those of queries and keys, RMSNorms over D, or None."""
        library = load_library()
        assert library is not None
        self.attention, self.heads, self.head_dim = library.attention, heads, head_dim
        (_, self.query_norm, _, eps), (_, self.key_norm, _, _) = (norm_arguments(norm) for norm in norms)
        self.arguments = AttentionArguments(
            address(self.query_norm), address(self.key_norm), eps, scale, softcap, clip,
            heads, kv_heads, head_dim, window,
        )  # fmt: skip
        self.pointer = ctypes.addressof(self.arguments)

    def __call__(
        self, heads: Tensor, rope: tuple[Tensor, Tensor] | None, keys: Tensor, values: Tensor, lengths: Tensor
    ) -> Tensor:
        """Map projected heads (B, T, (H + 2 G) D), which it overwrites, to (B, T, H D).

        The rope has cosines and sines (B or 1, 1, T, R / 2); the cache of the layer is (B, G, S, D), in float32, with
        `lengths` (B,) of S slots before the new tokens.
        """
        B, T, _ = heads.shape
        if int(lengths.max()) + T > keys.size(2):
            raise IndexError(f"{keys.size(2)} slots are too few for {int(lengths.max())} + {T} tokens")
        heads = heads.contiguous()
        cosines, sines = (None, None) if rope is None else (part.contiguous() for part in rope)
        half = 0 if cosines is None else cosines.size(-1)
        y = torch.empty(B, T, self.heads * self.head_dim)
        self.attention(
            self.pointer, heads.data_ptr(), address(cosines), address(sines), half,
            0 if cosines is None or cosines.size(0) == 1 else cosines.stride(0),
            keys.data_ptr(), values.data_ptr(), keys.stride(0), keys.stride(1), lengths.data_ptr(), y.data_ptr(),
            B, T, torch.get_num_threads(),
        )  # fmt: skip
        return y


def pack(weight: Tensor, bias: Tensor | None, unit: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Quantize a matrix (N, K), and return it in the order of the kernel with scales, 128 times its sums, and biases.

    The matrix becomes (units, K / 4, unit, 4), padded with zeros; the others (units, unit).
    """
    rows, scales = quantize_rows(weight)
    N, K = rows.shape
    units, inputs = -(-N // unit), -(-K // INPUTS) * INPUTS
    whole = rows.new_zeros(units * unit, inputs)
    whole[:N, :K] = rows
    packed = whole.view(units, unit, inputs // GROUP, GROUP).transpose(1, 2).contiguous()
    numbers = torch.zeros(2, units * unit)
    numbers[0, :N] = scales
    if bias is not None:
        numbers[1, :N] = bias.detach()
    sums = 128 * whole.sum(1, dtype=torch.int32)
    return packed, numbers[0].view(units, unit), sums.view(units, unit), numbers[1].view(units, unit)


def interleave(tensors: Sequence[Tensor]) -> Tensor:
    """Return the units of tensors (units, ...) by turns."""
    return tensors[0].contiguous() if len(tensors) == 1 else torch.stack(tuple(tensors), 1).flatten(0, 1).contiguous()


def norm_arguments(norm: nn.Module | None) -> tuple[int, Tensor | None, Tensor | None, float]:
    """Return the kind, weight, bias and epsilon of a normalization module."""
    if isinstance(norm, nn.LayerNorm):
        return LAYER_NORM, copy(norm.weight), copy(norm.bias), norm.eps
    if isinstance(norm, nn.RMSNorm):
        weight = copy(norm.weight)
        if isinstance(norm, RMSNormPlusOne) and weight is not None:
            weight = 1 + weight
        return RMS_NORM, weight, None, torch.finfo(torch.float32).eps if norm.eps is None else norm.eps
    assert norm is None or isinstance(norm, nn.Identity)
    return NO_NORM, None, None, 0.0


def copy(tensor: Tensor | None) -> Tensor | None:
    """Return a copy in float32: the tensors of a file are views of it, and each one keeps the whole file in memory."""
    return None if tensor is None else tensor.detach().float().clone()


def address(tensor: Tensor | None) -> int | None:
    """Return where the numbers of a tensor are, or None."""
    return None if tensor is None else tensor.data_ptr()
