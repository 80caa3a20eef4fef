"""Presets: every one builds, has the published size, and a recipe that the loop understands."""

from __future__ import annotations

import pytest
import torch

from gptctl.core.errors import UsageError
from gptctl.model.config import ModelConfig, load_preset, preset_names
from gptctl.model.gpt import GPT
from gptctl.train.recipe import Recipe
from gptctl.train.schedule import samples_after

# From OpenAI's and Hugging Face's weights where they exist; the 2017 decoder from nn.TransformerEncoderLayer's sizes.
PUBLISHED = {
    "vaswani-base": 37_858_304,
    "vaswani-big": 113_465_344,
    "gpt1": 116_534_784,
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "gpt3-small": 125_226_240,
    "gpt3-medium": 355_871_744,
    "gpt3-large": 760_300_032,
    "gpt3-xl": 1_315_723_264,
    "gpt3-2.7b": 2_651_553_280,
    "gpt3-6.7b": 6_658_404_352,
    "gpt3-13b": 12_853_386_240,
    "gpt3-175b": 174_604_259_328,
    "modern-124": 114_151_680,
    "moe-8x124": 746_515_200,
}

# Brown et al. 2020, table 2.1, as printed: layers, width, heads, width per head, tokens per batch, learning rate. Two of
# its numbers contradict their row, see the presets.
GPT3 = {
    "small": (12, 768, 12, 64, 0.5e6, 6.0e-4),
    "medium": (24, 1024, 16, 64, 0.5e6, 3.0e-4),
    "large": (24, 1536, 16, 96, 0.5e6, 2.5e-4),
    "xl": (24, 2048, 24, 128, 1e6, 2.0e-4),
    "2.7b": (32, 2560, 32, 80, 1e6, 1.6e-4),
    "6.7b": (32, 4096, 32, 128, 2e6, 1.2e-4),
    "13b": (40, 5140, 40, 128, 2e6, 1.0e-4),
    "175b": (96, 12288, 96, 128, 3.2e6, 0.6e-4),
}


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_builds_and_counts_in_closed_form(name: str) -> None:
    """The formula, the meta device and the publication agree."""
    preset = load_preset(name)
    config = ModelConfig.model_validate(preset["model"])
    with torch.device("meta"):
        model = GPT(config)
    padding = (config.padded_vocab_size - config.vocab_size) * config.hidden_size * (1 if config.tie_embeddings else 2)
    assert sum(parameter.numel() for parameter in model.parameters()) - padding == config.parameters()
    assert config.parameters() == PUBLISHED.get(name, config.parameters())
    recipe = Recipe.model_validate(preset["training"])
    assert recipe.seq_len <= config.max_seq_len


def test_published_presets_are_there() -> None:
    """Scripts rely on the names; every family has a tiny one."""
    families = {f"test-{name}" for name in ("vaswani", "gpt1", "gpt2", "gpt3", "modern", "moe")}
    assert set(PUBLISHED) | families | {"char-cpu", "char-modern", "gpt2-char"} <= set(preset_names())


@pytest.mark.parametrize("size", GPT3)
def test_gpt3_is_the_papers_table(size: str) -> None:
    """Every number of the row but the two misprints; layers alternate, the first is dense."""
    preset = load_preset(f"gpt3-{size}")
    config, recipe = ModelConfig.model_validate(preset["model"]), Recipe.model_validate(preset["training"])
    layers, width, heads, head_dim, batch_tokens, lr = GPT3[size]
    assert (config.layers, config.resolved_head_dim, config.max_seq_len, recipe.lr) == (layers, head_dim, 2048, lr)
    assert config.heads == (16 if size == "xl" else heads)
    assert config.hidden_size == (5120 if size == "13b" else width) == config.heads * config.resolved_head_dim
    assert config.intermediate_size == 4 * config.hidden_size
    assert [config.layer_window(layer) for layer in range(layers)] == [0, 256] * (layers // 2)
    assert recipe.batch_size * recipe.seq_len == pytest.approx(batch_tokens, rel=0.05)
    assert recipe.warmup_steps * recipe.batch_size * recipe.seq_len == pytest.approx(375e6, rel=0.01)
    assert samples_after(recipe, recipe.steps) * recipe.seq_len == pytest.approx(300e9, rel=0.001)


def test_a_token_uses_two_of_eight_experts() -> None:
    """Mixtral's way of counting."""
    assert ModelConfig.model_validate(load_preset("moe-8x124")["model"]).active_parameters() == 236_907_264
    dense = ModelConfig.model_validate(load_preset("modern-124")["model"])
    assert dense.active_parameters() == dense.parameters()


def test_unknown_preset_names_the_nearest() -> None:
    """Exit 2 with did-you-mean."""
    with pytest.raises(UsageError, match=r"did you mean 'gpt2-large'"):
        load_preset("gpt2-larg")


@pytest.mark.parametrize(
    "wrong", [{"heads": 5}, {"kv_heads": 5}, {"hidden_size": 36, "positions": "rope"}, {"layers": 0}]
)
def test_impossible_shapes_are_refused(wrong: dict[str, object]) -> None:
    """Sizes that do not divide never reach a tensor."""
    with pytest.raises(ValueError, match=r".+"):
        ModelConfig.model_validate({"hidden_size": 768, "heads": 12} | wrong)


def test_untied_and_biased_variants_count_too() -> None:
    """Corners of the closed form that no preset uses."""
    config = ModelConfig(
        layers=2, heads=4, kv_heads=2, hidden_size=32, intermediate_size=48, max_seq_len=16, vocab_size=70, tie_embeddings=False,
        activation="swiglu", bias=True, qk_norm=True, positions="learned",
    )  # fmt: skip
    model = GPT(config)
    padding = 2 * (config.padded_vocab_size - config.vocab_size) * config.hidden_size
    assert sum(parameter.numel() for parameter in model.parameters()) - padding == config.parameters()
