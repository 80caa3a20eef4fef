"""Layers of a decoder in int8 or int4 whose products, norms, activations and attention are computed by int8_kernels.c.

It computes what gptctl/infer/decoder.py and quantize.py compute; read those to understand it. A layer of a decoder is
four products and one attention, each one call: norms, biases, activations and the residual are part of the products.

Shapes: B batch, T new tokens, M rows, K inputs, N outputs, C hidden size, H heads, G key-value heads, D head dimension.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gptctl.infer.native.library import load_library
from gptctl.infer.native.threads import kernel_threads
from gptctl.infer.quantize import quantize_rows
from gptctl.model.norms import RMSNormPlusOne

NO_NORM, LAYER_NORM, RMS_NORM = range(3)
ACTIVATIONS = {"": 0, "relu": 1, "relu2": 2, "gelu_tanh": 3, "geglu_tanh": 3, "gelu": 4, "geglu": 4, "swiglu": 5}
GROUP = 4  # inputs that one instruction multiplies and adds
INPUTS = 16  # a multiple of them is stored in int8
BLOCK = 32  # inputs whose weights in int4 have a common scale for each output; a multiple of them is stored
VECTORS = 2  # of outputs that are computed together


class LinearArguments(ctypes.Structure):
    """`Linear` of int8_kernels.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("weights", "block_scales", "scales", "sums", "bias")),
        *((name, ctypes.c_void_p) for name in ("norm_weight", "norm_bias")),
        *((name, ctypes.c_int64) for name in ("inputs", "padded_inputs", "outputs", "units")),
        ("norm_eps", ctypes.c_float),
        *((name, ctypes.c_int32) for name in ("norm", "activation", "gated", "bits")),
    )


class AttentionArguments(ctypes.Structure):
    """`Attention` of int8_kernels.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("query_norm", "key_norm")),
        *((name, ctypes.c_float) for name in ("norm_eps", "scale", "softcap", "clip")),
        *((name, ctypes.c_int32) for name in ("heads", "kv_heads", "head_dim", "window")),
    )


class Packed(NamedTuple):
    """The tensors of a matrix in the order of `Linear` of int8_kernels.c; the first dimension is that of units."""

    weights: Tensor
    block_scales: Tensor | None  # in int4
    scales: Tensor | None  # in int8
    sums: Tensor | None  # in int8: 128 times those of the weights of an output
    bias: Tensor


class NativeLinear:
    """y = f(norm(x) W^T + b) + residual with W in int8; gated, y = f(norm(x) V^T + c) * (norm(x) W^T + b)."""

    bits = 8

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
        self.product, unit, kind = library.product, VECTORS * library.lanes(), pack if self.bits == 8 else pack_blocks
        self.inputs, self.outputs = weight.size(1), weight.size(0)
        parts = [kind(*part, unit) for part in ((gate, (weight, bias)) if gate else ((weight, bias),))]
        self.packed = Packed._make(None if some[0] is None else interleave(some) for some in zip(*parts, strict=True))
        norm_kind, self.norm_weight, self.norm_bias, eps = norm_arguments(norm)
        units, steps = self.packed.weights.shape[:2]
        self.arguments = LinearArguments(
            *map(address, self.packed), address(self.norm_weight), address(self.norm_bias),
            self.inputs, steps * (GROUP if self.bits == 8 else BLOCK), self.outputs, units,
            eps, norm_kind, ACTIVATIONS[activation], gate is not None, self.bits,
        )  # fmt: skip
        self.pointer = ctypes.addressof(self.arguments)

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Map (..., K) to (..., N), float32."""
        x = x.contiguous()
        y = torch.empty(*x.shape[:-1], self.outputs)
        rows = x.numel() // self.inputs
        if rows and not self.product(
            self.pointer, x.data_ptr(), address(residual), y.data_ptr(), rows, kernel_threads()
        ):
            raise MemoryError
        return y


class Int4Linear(NativeLinear):
    """A product with W in int4: 32 weights of an output have a scale in float16, and integers from -8 to 7."""

    bits = 4


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
        if not self.attention(
            self.pointer, heads.data_ptr(), address(cosines), address(sines), half,
            0 if cosines is None or cosines.size(0) == 1 else cosines.stride(0),
            keys.data_ptr(), values.data_ptr(), keys.stride(0), keys.stride(1), lengths.data_ptr(), y.data_ptr(),
            B, T, kernel_threads(),
        ):  # fmt: skip
            raise MemoryError
        return y


def pack(weight: Tensor, bias: Tensor | None, unit: int) -> Packed:
    """Quantize a matrix (N, K) to int8, and return it in the order of the kernel: (units, K / 4, unit, 4)."""
    rows, scales = quantize_rows(weight)
    whole = pad(rows, unit, INPUTS)
    units, K = len(whole) // unit, whole.size(1)
    packed = whole.view(units, unit, K // GROUP, GROUP).transpose(1, 2).contiguous()
    sums = (128 * whole.sum(1, dtype=torch.int32)).view(units, unit)
    return Packed(packed, None, pad(scales[:, None], unit, 1).view(units, unit), sums, pad_bias(bias, unit, units))


def pack_blocks(weight: Tensor, bias: Tensor | None, unit: int) -> Packed:
    """Quantize a matrix (N, K) to int4, and return it in the order of the kernel: (units, K / 32, 4, unit, 4) bytes.

    The weight of a block with the largest size becomes -8 or its scale is zero.
    """
    blocks = pad(weight.detach().float(), unit, BLOCK)
    units, count = len(blocks) // unit, blocks.size(1) // BLOCK
    blocks = blocks.view(units, unit, count, BLOCK)
    largest = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))
    scales = (largest / -8).half()
    whole = (blocks / scales.float()).nan_to_num_(0, 0, 0).round_().clamp_(-8, 7).add_(8).to(torch.uint8)
    low, high = whole.view(units, unit, count, 2, 4, GROUP).unbind(3)  # (units, unit, K / 32, 4, 4)
    packed = (low | high << 4).permute(0, 2, 3, 1, 4).contiguous().view(torch.int8)
    return Packed(packed, scales[..., 0].transpose(1, 2).contiguous(), None, None, pad_bias(bias, unit, units))


def pad(rows: Tensor, unit: int, multiple: int) -> Tensor:
    """Return a matrix with zeros behind its rows and columns, up to multiples."""
    N, K = rows.shape
    whole = rows.new_zeros(-(-N // unit) * unit, -(-K // multiple) * multiple)
    whole[:N, :K] = rows
    return whole


def pad_bias(bias: Tensor | None, unit: int, units: int) -> Tensor:
    """Return the biases (units, unit) of outputs, zeros if there are none."""
    return torch.zeros(units, unit) if bias is None else pad(bias.detach().float()[:, None], unit, 1).view(units, unit)


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
