"""Weights are read, converted and written tensor by tensor, so that a model is never in memory twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gptctl.core.config import plain
from gptctl.infer.decoder import Decoder
from gptctl.model.files.locate import find_model
from gptctl.model.files.model_manifest import write_manifest
from gptctl.model.folder import load_model
from gptctl.model.gpt import GPT
from gptctl.model.hf.adapter_save import save_adapter
from gptctl.model.lora import apply_lora, lora_layers, merge_lora
from gptctl.model.lora_config import LoraConfig
from gptctl.model.save import write_config, write_transformers, write_weights
from gptctl.stages.export import Export, run
from tests.allocations import peak_allocated
from tests.evals.small_model import tokenizer_json
from tests.model.test_gpt import make

# Of a layout that differs on disk: GPT-2's matrices are transposed and joined, Mixtral's experts lie apart.
SIZES: dict[str, Any] = {"layers": 12, "hidden_size": 128, "heads": 4, "intermediate_size": 512, "vocab_size": 300}
PRESETS = {"gpt2": "test-gpt2", "llama": "test-modern", "mixtral": "test-moe"}
SHARE = 0.25  # of the model, that is used beside it: no tensor is larger than a tenth


def folder_of(path: Path, case: str, dtype: torch.dtype) -> int:
    """Write a folder for transformers and return its size in float32."""
    changes = {"qk_norm": False} if case == "llama" else {}
    model = make(PRESETS[case], **SIZES, **changes)
    path.mkdir()
    write_transformers(path, model, tokenizer_json(), {}, dtype)
    return 4 * model.config.parameters()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("case", PRESETS)
def test_no_second_copy(tmp_path: Path, case: str, dtype: torch.dtype) -> None:
    """Loading needs the model and a tensor, the decoder hardly more, and an export no model at all."""
    size = folder_of(tmp_path / "model", case, dtype)
    file = tmp_path / "model" / "model.safetensors"  # which is mapped while its header is checked
    peak, saved = peak_allocated(lambda: load_model(tmp_path / "model"), file)
    assert size <= peak <= (1 + SHARE) * size
    assert isinstance(saved.model, GPT)
    peak, _ = peak_allocated(lambda: Decoder(saved.model))
    assert peak <= SHARE * size
    for number, settings in enumerate(
        ({}, {"dtype": "bfloat16"}, {"format": "gguf"}, {"format": "gguf", "dtype": "q8_0"})
    ):
        config = Export(model=str(tmp_path / "model"), out=str(tmp_path / f"out{number}"), **settings)
        peak, _ = peak_allocated(lambda config=config: run(config), file)
        assert peak <= SHARE * size, settings


@pytest.mark.parametrize("kind", ["adapter", "checkpoint"])
@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
@pytest.mark.parametrize("case", ["gpt2", "llama"])
def test_no_second_copy_to_merge_an_update(tmp_path: Path, case: str, dora: bool, kind: str) -> None:
    """Loading needs the model and a matrix, an export only matrices; what is written is the merged model."""
    size = folder_of(tmp_path / "base", case, torch.float32)
    base = load_model(tmp_path / "base")
    adapted, lora = base.model, LoraConfig(rank=2, dora=dora)
    apply_lora(adapted, lora, seed=0)
    with torch.no_grad():
        for _, layer in lora_layers(adapted):
            layer.lora_b.add_(0.1)
    file = tmp_path / "base" / "model.safetensors"
    if kind == "adapter":
        save_adapter(tmp_path / "update", adapted, str(tmp_path / "base"))
    else:  # as training writes it
        (tmp_path / "update").mkdir()
        write_weights(tmp_path / "update", adapted, adapted.state_dict())
        write_config(tmp_path / "update", adapted, base.tokenizer_json, {"lora": plain(lora)})
        write_manifest(tmp_path / "update", "model")
        file = tmp_path / "update" / "model.safetensors"
    folder = find_model(str(tmp_path / "update"))
    peak, saved = peak_allocated(lambda: load_model(folder), file)
    assert size <= peak <= (1 + SHARE) * size
    merge_lora(adapted)
    wanted = adapted.state_dict()
    torch.testing.assert_close(dict(saved.model.state_dict()), dict(wanted), atol=1e-6, rtol=0)
    config = Export(model=str(folder), out=str(tmp_path / "out"))
    peak, _ = peak_allocated(lambda: run(config), file)
    assert peak <= SHARE * size
    torch.testing.assert_close(dict(load_model(tmp_path / "out").model.state_dict()), dict(wanted), atol=1e-6, rtol=0)
