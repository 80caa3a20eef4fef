"""Qwen1.5-MoE and Qwen2-MoE (Qwen Team 2024): a mixture of experts with a shared one."""

from __future__ import annotations

from gptctl.model.hf import llama_parts as parts
from gptctl.model.hf.families import qwen3_moe
from gptctl.model.hf.family_spec import BiasKey, ConfigKey, Family, RopeKeys, Values, WindowKeys, module


def window_types(values: Values, layers: int) -> list[str]:
    """Return the types of layers without the key layer_types: every other one of the first slides."""
    last = values.get("max_window_layers", 28)
    return ["sliding_attention" if layer % 2 == 0 and layer < last else "full_attention" for layer in range(layers)]


FAMILY = Family(
    architecture="Qwen2MoeForCausalLM",
    model_type="qwen2_moe",
    prefix="model.",
    layer_prefix="model.layers.{layer}.",
    constants=parts.RMS_NORM,
    config_keys=(
        *parts.config_keys(
            vocab_size=151936,
            hidden_size=2048,
            intermediate_size=1408,
            layers=24,
            heads=16,
            kv_heads=16,
            max_seq_len=32768,
            norm_eps=1e-6,
            intermediate_key="moe_intermediate_size",
        ),
        ConfigKey("experts", "num_experts", 60),
        ConfigKey("experts_per_token", "num_experts_per_tok", 4),
        ConfigKey("norm_topk_prob", "norm_topk_prob", False),
        ConfigKey("shared_expert_intermediate_size", "shared_expert_intermediate_size", 5632),
    ),
    has_head_dim=True,
    rope=RopeKeys(),
    windows=WindowKeys("layer_types", default=4096, switch="use_sliding_window", default_types=window_types),
    activations={"swiglu": "silu"},
    activation_key="hidden_act",
    biases=(BiasKey("qkv_bias", True, ("qkv",)),),
    fixed_values=qwen3_moe.EVERY_LAYER,
    outer_modules=parts.OUTER_MODULES,
    block_modules=(
        *parts.NORMS,
        *parts.ATTENTION,
        *qwen3_moe.EXPERTS,
        module("mlp.shared_expert.gate_proj", "feed_forward.shared_expert.gate"),
        module("mlp.shared_expert.up_proj", "feed_forward.shared_expert.up"),
        module("mlp.shared_expert.down_proj", "feed_forward.shared_expert.down"),
        module("mlp.shared_expert_gate", "feed_forward.shared_gate"),
    ),
)
