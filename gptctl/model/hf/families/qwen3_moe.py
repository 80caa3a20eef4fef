"""Qwen3-MoE (Qwen Team 2025): Qwen3 with a mixture of experts in each layer."""

from __future__ import annotations

from gptctl.model.hf import llama_parts as parts
from gptctl.model.hf.family_spec import BiasKey, ConfigKey, Family, FixedValue, RopeKeys, WindowKeys, module

EXPERTS = (
    module("mlp.gate", "feed_forward.router"),
    module("mlp.experts.{expert}.gate_proj", "feed_forward.experts.gate"),
    module("mlp.experts.{expert}.up_proj", "feed_forward.experts.up"),
    module("mlp.experts.{expert}.down_proj", "feed_forward.experts.down"),
)
EVERY_LAYER = {"decoder_sparse_step": FixedValue(1, 1), "mlp_only_layers": FixedValue([], [])}

FAMILY = Family(
    architecture="Qwen3MoeForCausalLM",
    model_type="qwen3_moe",
    prefix="model.",
    layer_prefix="model.layers.{layer}.",
    constants=parts.RMS_NORM | {"qk_norm": True},
    config_keys=(
        *parts.config_keys(
            vocab_size=151936,
            hidden_size=2048,
            intermediate_size=768,
            layers=24,
            heads=32,
            kv_heads=4,
            max_seq_len=32768,
            norm_eps=1e-6,
            intermediate_key="moe_intermediate_size",
        ),
        ConfigKey("experts", "num_experts", 128),
        ConfigKey("experts_per_token", "num_experts_per_tok", 8),
        ConfigKey("norm_topk_prob", "norm_topk_prob", False),
    ),
    has_head_dim=True,
    rope=RopeKeys(),
    windows=WindowKeys("all", default=4096, switch="use_sliding_window"),
    activations={"swiglu": "silu"},
    activation_key="hidden_act",
    biases=(BiasKey("attention_bias", False, ("qkv", "attention_output")),),
    fixed_values=EVERY_LAYER,
    outer_modules=parts.OUTER_MODULES,
    block_modules=(*parts.NORMS, *parts.ATTENTION, *parts.QK_NORMS, *EXPERTS),
    aliases={"num_local_experts": "num_experts"},  # transformers 5 writes the former, published models the latter
)
