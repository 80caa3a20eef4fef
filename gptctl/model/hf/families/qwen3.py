"""Qwen3 (Qwen Team 2025): normalized queries and keys."""

from __future__ import annotations

from gptctl.model.hf import llama_parts as parts
from gptctl.model.hf.families import qwen2
from gptctl.model.hf.family_spec import BiasKey, Family, RopeKeys

FAMILY = Family(
    architecture="Qwen3ForCausalLM",
    model_type="qwen3",
    prefix="model.",
    layer_prefix="model.layers.{layer}.",
    constants=parts.RMS_NORM | {"qk_norm": True},
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
    default_head_dim=128,
    rope=RopeKeys(),
    windows=qwen2.WINDOWS,
    activations=parts.GATED,
    activation_key="hidden_act",
    biases=(BiasKey("attention_bias", False, ("qkv", "attention_output")),),
    outer_modules=parts.OUTER_MODULES,
    block_modules=(*parts.NORMS, *parts.ATTENTION, *parts.QK_NORMS, *parts.GATED_FEED_FORWARD),
)
