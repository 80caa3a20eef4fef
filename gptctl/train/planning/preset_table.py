"""The table of all presets, for --list-presets."""

from __future__ import annotations

from gptctl.core.summary import Table
from gptctl.model.config import ModelConfig, load_preset, preset_names
from gptctl.train.recipe import Recipe


def preset_table() -> Table:
    """Return name, size and optimizer of every preset."""
    rows = []
    for name in preset_names():
        preset = load_preset(name)
        model = ModelConfig.model_validate(preset["model"])
        recipe = Recipe.model_validate(preset["training"])
        sizes = (model.layers, model.hidden_size, model.max_seq_len)
        rows.append((name, f"{model.parameters():,}", *map(str, sizes), recipe.optimizer))
    header = ("name", "parameters", "layers", "hidden_size", "max_seq_len", "optimizer")
    return Table("presets", header, tuple(rows))
