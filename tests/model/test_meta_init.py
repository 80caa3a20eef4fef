"""Models without numbers: the shapes of a model, and no import that costs seconds."""

from __future__ import annotations

import subprocess
import sys

import torch

from gptctl.model.config import ModelConfig
from gptctl.model.gpt import GPT
from gptctl.model.meta_init import meta_init
from tests.conftest import REPO


def test_shapes_and_names_are_the_models() -> None:
    """All on the meta device; outside, modules are initialised as ever."""
    config = ModelConfig(layers=1, hidden_size=32, heads=2, intermediate_size=64, vocab_size=100, max_seq_len=8)
    with meta_init():
        empty = GPT(config)
    whole = GPT(config)
    assert {name: p.shape for name, p in empty.named_parameters()} == {
        name: p.shape for name, p in whole.named_parameters()
    }
    assert all(parameter.is_meta for parameter in empty.parameters())
    assert whole.embedding.weight.std() > 0.1
    assert torch.nn.Linear(3, 2).weight.any()


def test_the_compiler_is_not_imported() -> None:
    """It takes 1 to 2 s, in every command that reads a model."""
    script = """
import sys
from gptctl.model.meta_init import meta_init
from gptctl.model.config import ModelConfig
from gptctl.model.gpt import GPT
with meta_init():
    for positions in ("learned", "rope", "sinusoidal"):
        GPT(ModelConfig(positions=positions))
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", script], cwd=REPO).returncode == 0
