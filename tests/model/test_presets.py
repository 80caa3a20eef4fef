"""Presets: every one builds, has the published size, and a recipe that the loop understands."""

from __future__ import annotations

import pytest
import torch

from gptctl.core.errors import UsageError
from gptctl.model.config import ModelConfig, load_preset, preset_names
from gptctl.model.gpt import GPT
from gptctl.train.recipe import Recipe

# From OpenAI's and Hugging Face's weights where they exist; the 2017 decoder from nn.TransformerEncoderLayer's sizes.
PUBLISHED = {
    "vaswani-base": 37_858_304,
    "vaswani-big": 113_465_344,
    "gpt1": 116_534_784,
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "modern-124": 114_151_680,
}


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_builds_and_counts_in_closed_form(name: str) -> None:
    """The formula, the meta device and the publication agree."""
    preset = load_preset(name)
    config = ModelConfig.model_validate(preset["model"])
    with torch.device("meta"):
        model = GPT(config)
    padding = (config.padded_vocab_size - config.vocab_size) * config.width * (1 if config.tie_embeddings else 2)
    assert sum(parameter.numel() for parameter in model.parameters()) - padding == config.parameters()
    assert config.parameters() == PUBLISHED.get(name, config.parameters())
    recipe = Recipe.model_validate(preset["training"])
    assert recipe.seq_len <= config.context


def test_published_presets_are_there() -> None:
    """Scripts rely on the names."""
    assert set(PUBLISHED) | {"char-cpu", "char-modern", "gpt2-char", "tiny-vaswani", "tiny-gpt1"} <= set(preset_names())


def test_unknown_preset_names_the_nearest() -> None:
    """Exit 2 with did-you-mean."""
    with pytest.raises(UsageError, match=r"did you mean 'gpt2-large'"):
        load_preset("gpt2-larg")


@pytest.mark.parametrize("wrong", [{"heads": 5}, {"kv_heads": 5}, {"width": 36, "positions": "rope"}, {"layers": 0}])
def test_impossible_shapes_are_refused(wrong: dict[str, object]) -> None:
    """Sizes that do not divide never reach a tensor."""
    with pytest.raises(ValueError, match=r".+"):
        ModelConfig.model_validate({"width": 768, "heads": 12} | wrong)


def test_untied_and_biased_variants_count_too() -> None:
    """Corners of the closed form that no preset uses."""
    config = ModelConfig(
        layers=2, heads=4, kv_heads=2, width=32, feed_forward=48, context=16, vocab_size=70, tie_embeddings=False,
        activation="swiglu", bias=True, qk_norm=True, positions="learned",
    )  # fmt: skip
    model = GPT(config)
    padding = 2 * (config.padded_vocab_size - config.vocab_size) * config.width
    assert sum(parameter.numel() for parameter in model.parameters()) - padding == config.parameters()
