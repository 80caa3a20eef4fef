"""Gemma (Gemma Team 2024): norms with 1 + weight, scaled embeddings, and a feed-forward network gated by GELU."""

from __future__ import annotations

from gptctl.model.hf import llama_parts as parts
from gptctl.model.hf.family_spec import BiasKey, Family, FixedValue, RopeKeys, module

CONSTANTS = {"norm": "rmsnorm_plus_one", "positions": "rope", "embedding_scale": True}
OUTER_MODULES = (module("model.embed_tokens", "embedding"), module("model.norm", "final_norm"))
ACTIVATIONS = {"geglu_tanh": "gelu_pytorch_tanh", "geglu": "gelu", "swiglu": "silu"}
BIASES = (BiasKey("attention_bias", False, ("qkv", "attention_output")),)
CAUSAL = {"use_bidirectional_attention": FixedValue(None, None)}

FAMILY = Family(
    architecture="GemmaForCausalLM",
    model_type="gemma",
    prefix="model.",
    layer_prefix="model.layers.{layer}.",
    constants=CONSTANTS,
    config_keys=parts.config_keys(
        vocab_size=256000,
        hidden_size=3072,
        intermediate_size=24576,
        layers=28,
        heads=16,
        kv_heads=16,
        max_seq_len=8192,
        norm_eps=1e-6,
        tie_embeddings=True,
    ),
    has_head_dim=True,
    default_head_dim=256,
    rope=RopeKeys(),
    activations={"geglu_tanh": "gelu_pytorch_tanh", "swiglu": "silu"},
    activation_key="hidden_act",
    biases=BIASES,
    fixed_values=CAUSAL,
    outer_modules=OUTER_MODULES,
    block_modules=(*parts.NORMS, *parts.ATTENTION, *parts.GATED_FEED_FORWARD),
    aliases={"gelu": "gelu_pytorch_tanh"},  # the first releases wrote the former and meant the latter
)
