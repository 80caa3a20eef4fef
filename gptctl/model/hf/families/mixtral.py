"""Mixtral (Jiang et al. 2024): Mistral with a mixture of experts."""

from __future__ import annotations

from gptctl.model.hf import llama_parts as parts
from gptctl.model.hf.family_spec import ConfigKey, Family, RopeKeys, WindowKeys, module

FAMILY = Family(
    architecture="MixtralForCausalLM",
    model_type="mixtral",
    prefix="model.",
    layer_prefix="model.layers.{layer}.",
    constants=parts.RMS_NORM,
    config_keys=(
        *parts.config_keys(
            vocab_size=32000,
            hidden_size=4096,
            intermediate_size=14336,
            layers=32,
            heads=32,
            kv_heads=8,
            max_seq_len=4096 * 32,
            norm_eps=1e-5,
        ),
        ConfigKey("experts", "num_local_experts", 8),
        ConfigKey("experts_per_token", "num_experts_per_tok", 2),
    ),
    has_head_dim=True,
    rope=RopeKeys(default_theta=1e6),
    windows=WindowKeys("all"),
    activations={"swiglu": "silu"},
    activation_key="hidden_act",
    outer_modules=parts.OUTER_MODULES,
    block_modules=(
        *parts.NORMS,
        *parts.ATTENTION,
        module("block_sparse_moe.gate", "feed_forward.router"),
        module("block_sparse_moe.experts.{expert}.w1", "feed_forward.experts.gate"),
        module("block_sparse_moe.experts.{expert}.w3", "feed_forward.experts.up"),
        module("block_sparse_moe.experts.{expert}.w2", "feed_forward.experts.down"),
    ),
    aliases={"num_experts": "num_local_experts"},
)
