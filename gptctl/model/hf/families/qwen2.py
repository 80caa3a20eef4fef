"""Qwen2 and Qwen2.5 (Qwen Team 2024): Llama with biases of queries, keys and values."""

from __future__ import annotations

from gptctl.model.hf import llama_parts as parts
from gptctl.model.hf.family_spec import BiasKey, Family, RopeKeys, Values, WindowKeys


def window_types(values: Values, layers: int) -> list[str]:
    """Return the types of layers without the key layer_types: the last ones slide."""
    first = values.get("max_window_layers", 28)
    return ["sliding_attention" if layer >= first else "full_attention" for layer in range(layers)]


WINDOWS = WindowKeys("layer_types", default=4096, switch="use_sliding_window", default_types=window_types)
FAMILY = Family(
    architecture="Qwen2ForCausalLM",
    model_type="qwen2",
    prefix="model.",
    layer_prefix="model.layers.{layer}.",
    constants=parts.RMS_NORM,
    config_keys=parts.config_keys(
        vocab_size=151936,
        hidden_size=4096,
        intermediate_size=22016,
        layers=32,
        heads=32,
        kv_heads=32,
        max_seq_len=32768,
        norm_eps=1e-6,
    ),
    has_head_dim=True,
    rope=RopeKeys(),
    windows=WINDOWS,
    activations=parts.GATED,
    activation_key="hidden_act",
    biases=(BiasKey("", True, ("qkv",)),),
    outer_modules=parts.OUTER_MODULES,
    block_modules=(*parts.NORMS, *parts.ATTENTION, *parts.GATED_FEED_FORWARD),
)
