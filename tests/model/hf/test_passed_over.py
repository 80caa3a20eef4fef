"""Tensors of older files that are no parameters must be what gptctl computes in their place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from gptctl.core.errors import DataError
from gptctl.model.folder import load_model
from tests.model.hf.small_families import CONTEXT, LLAMA3, save

pytest.importorskip("transformers")
THETA = 5e5  # of the case llama-llama3


def frequencies(theta: float, size: int = 12) -> Tensor:
    return 1 / theta ** (torch.arange(0, size, 2).float() / size)


def llama3_frequencies() -> Tensor:
    """Return what transformers computes."""
    import transformers

    config = transformers.LlamaConfig(
        hidden_size=48, num_attention_heads=4, rope_theta=THETA, rope_scaling=dict(LLAMA3)
    )
    return transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["llama3"](config, None)[0]


def mask(window: int = CONTEXT) -> Tensor:
    return torch.ones(CONTEXT, CONTEXT).tril().triu(1 - window)[None, None]


@pytest.mark.parametrize(
    ("case", "name", "equal", "others"),
    [
        (
            "llama-llama3",
            "model.layers.1.self_attn.rotary_emb.inv_freq",
            (frequencies(THETA), llama3_frequencies, frequencies(THETA).half(), frequencies(THETA).bfloat16()),
            (frequencies(1e4), frequencies(THETA) / 8, frequencies(THETA, 10), frequencies(1e4).half()),
        ),
        (
            "gpt-neox",
            "gpt_neox.layers.0.attention.bias",
            (mask(), mask().bool(), mask()[..., :8, :8]),
            (mask(8), torch.ones(1, 1, 8, 8), torch.zeros(48)),
        ),
        (
            "gpt-neox",
            "gpt_neox.layers.3.attention.masked_bias",
            (torch.tensor(-1e9), torch.tensor(-1e4).half()),
            (torch.tensor(-1.0), torch.tensor(0.0)),
        ),
    ],
    ids=["inv_freq", "mask", "masked_bias"],
)
def test_what_is_passed_over_is_compared(
    tmp_path: Path, case: str, name: str, equal: tuple[Any, ...], others: tuple[Tensor, ...]
) -> None:
    """Another value is an error that names the tensor: transformers once computed with it."""
    save(case, tmp_path)
    path = tmp_path / "model.safetensors"
    stored = load_file(path)
    for value in equal:
        value = value() if callable(value) else value
        save_file(stored | {name: value.contiguous()}, path, {"format": "pt"})
        load_model(tmp_path)
    for value in others:
        save_file(stored | {name: value.contiguous()}, path, {"format": "pt"})
        with pytest.raises(DataError, match=name):
            load_model(tmp_path)
