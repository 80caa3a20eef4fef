"""The classes of transformers that gptctl reads and writes, and which of them fits a model. Needs no torch."""

from __future__ import annotations

from typing import Any

from gptctl.core.config import plain
from gptctl.core.errors import UsageError
from gptctl.model.config import ModelConfig
from gptctl.model.hf.config_export import family_settings
from gptctl.model.hf.config_read import convert
from gptctl.model.hf.families import FAMILIES
from gptctl.model.hf.family_spec import Family
from gptctl.model.hf.window_keys import effective_windows
from gptctl.model.rope_scaling import USED_BY, RopeScaling

# What a class need not have. Weights can express biases and the scale of embeddings; the rest changes no result.
NOT_COMPARED = (
    "architecture", "attention_dropout", "bias", "bias_parts", "dropout", "embedding_scale", "end_of_text", "init",
    "sliding_window", "tie_embeddings",
)  # fmt: skip


def closest_family(config: ModelConfig) -> Family:
    """Return the class that a config names, or the first one that is closest to it.

    `unsupported_reason` says whether it computes the same. Raises UsageError (2) if the config names an unknown one.
    """
    if config.architecture:
        return family_named(config.architecture)
    return min(FAMILIES, key=lambda family: len(differences(config, family)))


def family_named(architecture: str) -> Family:
    """Return a class by its name. Raises UsageError (2) if it is not known."""
    for family in FAMILIES:
        if family.architecture == architecture:
            return family
    raise UsageError(
        f"model.architecture {architecture} is not known",
        f"known are {', '.join(family.architecture for family in FAMILIES)}",
    )


def unsupported_reason(config: ModelConfig) -> str:
    """Return why no class of transformers computes what a config does; empty if one does.

    `lazy_hf_tensors` checks what depends on the weights: biases that a class does not have.
    """
    family = closest_family(config)
    found = differences(config, family)
    return f"{family.architecture} has no {', '.join(found)}" if found else ""


def differences(config: ModelConfig, family: Family) -> list[str]:
    """List the keys of a config that a class cannot express, with their values.

    They are those that change when the settings of the class are read again.
    """
    read = convert(family_settings(config, family), family, [])
    read["rope_scaling"] = RopeScaling.model_construct(**read.get("rope_scaling", {}))
    wanted, found = computation(config), computation(ModelConfig.model_construct(**read))
    values = plain(config)
    return [
        f"{key} = {','.join(values[key]) if key == 'layer_pattern' else values[key]}"
        for key, value in wanted.items()
        if found.get(key) != value
    ]


def computation(config: ModelConfig) -> dict[str, Any]:
    """Return what distinguishes the computation of one config from that of another."""
    values = plain(config) | {"kv_heads": config.resolved_kv_heads, "head_dim": config.resolved_head_dim}
    values["attention_multiplier"] = config.resolved_attention_multiplier
    values["layer_pattern"] = effective_windows(config)
    values["rope_pattern"] = [config.rope_name(layer) for layer in range(config.layers)]
    used = {"rope_type", *(name for name, types in USED_BY.items() if config.rope_scaling.rope_type in types)}
    values["rope_scaling"] = {name: value for name, value in values["rope_scaling"].items() if name in used}
    if "original_max_seq_len" in used:
        values["rope_scaling"]["original_max_seq_len"] = config.rope_scaling.original_max_seq_len or config.max_seq_len
    if config.positions == "sinusoidal":  # a table that a class with learned positions holds as weights
        values["positions"] = "learned"
    left_out = {*NOT_COMPARED, *(name for name in config.without_effect() if name != "rope_pattern")}
    if config.positions != "rope":
        left_out.add("rope_scaling")
    return {name: value for name, value in values.items() if name not in left_out}
