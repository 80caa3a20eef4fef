"""A forward pass makes no tensor on the CPU, whatever the family: on a GPU that would be a copy and a wait."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from gptctl.model.classifier import Classifier, Pooling
from gptctl.model.device import configure_process
from gptctl.model.gpt import find_document_starts
from gptctl.model.lora import apply_lora
from gptctl.model.lora_config import LoraConfig
from tests.fake_cuda import CUDA, fake_cuda, on_fake_cuda
from tests.model.test_gpt import FAMILIES, make


def bf16(name: str, **changes: Any) -> Any:
    """Return a model in bfloat16, in which experts need no loop over their tokens."""
    return make(name, **changes).bfloat16()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("documents", [False, True])
def test_training(name: str, documents: bool) -> None:
    """Loss sums with dropout, of a small and a large batch, whose logits are computed in chunks."""
    model = bf16(name, dropout=0.1, layers=2).train()
    with fake_cuda() as (transfers, cpu_tensors):
        on_fake_cuda(model)
        for rows, length in ((2, 40), (64, 64)):
            tokens = torch.empty(rows, length, dtype=torch.long, device=CUDA)
            starts = find_document_starts(tokens, 0) if documents else None
            found = model(tokens, targets=tokens, document_starts=starts, label_smoothing=0.1)
            assert all(value.device == CUDA for value in found)
    assert (cpu_tensors.found, transfers.downloads) == ([], 0)


def test_lora() -> None:
    """With magnitudes (DoRA)."""
    model = make("test-gpt2")
    apply_lora(model, LoraConfig(rank=2, dora=True), 0)
    with fake_cuda() as (transfers, cpu_tensors):
        on_fake_cuda(model)
        tokens = torch.empty(2, 40, dtype=torch.long, device=CUDA)
        assert model(tokens).device == CUDA
    assert (cpu_tensors.found, transfers.downloads) == ([], 0)


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "concat"])
def test_classification(pooling: Pooling) -> None:
    """One sequence of tokens in each text."""
    model = Classifier(make("test-modern"), 3, pooling=pooling)
    with fake_cuda() as (transfers, cpu_tensors):
        on_fake_cuda(model)
        tokens, lengths = (torch.empty(4, 1, *size, dtype=torch.long, device=CUDA) for size in ((40,), ()))
        assert model(tokens, lengths)[0].device == CUDA
    assert (cpu_tensors.found, transfers.downloads) == ([], 0)


def test_norms_of_bf16_values_do_not_warn() -> None:
    """torch says under autocast on the CPU that it has no fused kernel for queries and keys: nothing that a user can act on."""
    torch.set_warn_always(True)  # not only the first time in a process
    try:
        with warnings.catch_warnings(record=True) as found, torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            warnings.simplefilter("always")
            configure_process(torch.get_num_threads())
            make("test-modern")(torch.zeros(1, 4, dtype=torch.long))
    finally:
        torch.set_warn_always(False)
    assert [str(warning.message) for warning in found] == []
