"""The dry run's figures, against what training really holds."""

from __future__ import annotations

import torch

from gptctl.model.config import ModelConfig, load_preset, preset_names
from gptctl.model.gpt import GPT, loss_sum
from gptctl.train.estimate import estimate
from gptctl.train.recipe import Recipe


def test_every_preset_can_be_estimated() -> None:
    """Plausible figures without torch's help."""
    for name in preset_names():
        preset = load_preset(name)
        config, recipe = ModelConfig.model_validate(preset["model"]), Recipe.model_validate(preset["training"])
        one, eight = estimate(config, recipe), estimate(config, recipe, ranks=8)
        assert one["parameters"] == config.parameters()
        assert one["bytes_communicated"] == 0
        assert eight["bytes_communicated"] == 2 * 7 * 4 * config.parameters() // 8
        assert eight["memory_bytes_per_rank"] < one["memory_bytes_per_rank"]
        assert one["flops_per_step"] == eight["flops_per_step"] > 0


def test_gpt2_reproduction_needs_what_is_known() -> None:
    """6 N D: about 0.86 GFLOP a token for GPT-2 124M at 1,024 tokens (forward and backward)."""
    preset = load_preset("gpt2")
    found = estimate(ModelConfig.model_validate(preset["model"]), Recipe.model_validate(preset["training"]), ranks=8)
    assert found["tokens_per_step"] == 512 * 1024
    assert 0.75e9 < found["flops_per_step"] / found["tokens_per_step"] < 0.9e9


def test_activations_are_what_autograd_keeps() -> None:
    """Bytes of all tensors saved for the backward pass, within 30 %."""
    for name in ("tiny-gpt2", "tiny-modern", "char-cpu"):
        preset = load_preset(name)
        config = ModelConfig.model_validate(preset["model"])
        model = GPT(config)
        own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        seen: dict[int, int] = {}

        def keep(tensor: torch.Tensor, own: set[int] = own, seen: dict[int, int] = seen) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                seen[storage.data_ptr()] = storage.nbytes()
            return tensor

        tokens = torch.randint(config.vocab_size, (8, 65))
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            total, _ = loss_sum(model(tokens[:, :-1]), tokens[:, 1:])
        recipe = Recipe.model_validate(preset["training"] | {"batch_size": 8, "seq_len": 64})
        found = estimate(config, recipe)["memory"]["activations"]
        assert 0.7 < found / sum(seen.values()) < 1.4, name
        total.backward()
