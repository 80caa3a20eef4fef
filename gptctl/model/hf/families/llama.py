"""Llama 1 to 3.3 (Touvron et al. 2023; Grattafiori et al. 2024), SmolLM 1 and 2, TinyLlama, and others."""

from __future__ import annotations

from gptctl.model.hf import llama_parts as parts
from gptctl.model.hf.family_spec import BiasKey, Family, RopeKeys

FAMILY = Family(
    architecture="LlamaForCausalLM",
    model_type="llama",
    prefix="model.",
    layer_prefix="model.layers.{layer}.",
    constants=parts.RMS_NORM,
    config_keys=parts.config_keys(
        vocab_size=32000,
        hidden_size=4096,
        intermediate_size=11008,
        layers=32,
        heads=32,
        kv_heads=None,
        max_seq_len=2048,
        norm_eps=1e-6,
    ),
    has_head_dim=True,
    rope=RopeKeys(),
    activations=parts.GATED | {"geglu": "gelu", "geglu_tanh": "gelu_pytorch_tanh"},
    activation_key="hidden_act",
    biases=(
        BiasKey("attention_bias", False, ("qkv", "attention_output")),
        BiasKey("mlp_bias", False, ("feed_forward",)),
    ),
    outer_modules=parts.OUTER_MODULES,
    block_modules=(*parts.NORMS, *parts.ATTENTION, *parts.GATED_FEED_FORWARD),
)
