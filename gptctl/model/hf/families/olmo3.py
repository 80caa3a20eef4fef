"""OLMo 3 (OLMo Team 2025): OLMo 2 with sliding windows in three of four layers."""

from __future__ import annotations

from gptctl.model.hf import llama_parts as parts
from gptctl.model.hf.families import olmo, olmo2
from gptctl.model.hf.family_spec import Family, RopeKeys, Values, WindowKeys


def window_types(values: Values, layers: int) -> list[str]:
    """Return the types of layers without the key layer_types: all but every fourth slide."""
    return ["sliding_attention" if (layer + 1) % 4 else "full_attention" for layer in range(layers)]


FAMILY = Family(
    architecture="Olmo3ForCausalLM",
    model_type="olmo3",
    prefix="model.",
    layer_prefix="model.layers.{layer}.",
    constants=olmo2.CONSTANTS,
    config_keys=olmo2.FAMILY.config_keys,
    has_head_dim=True,
    rope=RopeKeys(default_theta=5e5, by_layer_type=True, default_sliding_theta=5e5),
    windows=WindowKeys("layer_types", default=4096, default_types=window_types),
    activations=parts.GATED,
    activation_key="hidden_act",
    biases=olmo.BIASES,
    outer_modules=parts.OUTER_MODULES,
    block_modules=olmo2.BLOCK_MODULES,
)
