"""StarCoder2 (Lozhkov et al. 2024): LayerNorm, biases and a plain feed-forward network with rotary positions."""

from __future__ import annotations

from gptctl.model.hf import llama_parts as parts
from gptctl.model.hf.family_spec import GELU_ALIASES, BiasKey, ConfigKey, Family, RopeKeys, WindowKeys, module

FAMILY = Family(
    architecture="Starcoder2ForCausalLM",
    model_type="starcoder2",
    prefix="model.",
    layer_prefix="model.layers.{layer}.",
    constants={"positions": "rope"},
    config_keys=(
        *parts.config_keys(
            vocab_size=49152,
            hidden_size=3072,
            intermediate_size=12288,
            layers=30,
            heads=24,
            kv_heads=2,
            max_seq_len=4096,
            norm_eps=1e-5,
            norm_eps_key="norm_epsilon",
            tie_embeddings=True,
        ),
        ConfigKey("dropout", "embedding_dropout", 0.0),
        ConfigKey("dropout", "residual_dropout", 0.0),
    ),
    has_head_dim=True,
    rope=RopeKeys(),
    windows=WindowKeys("all"),
    activations={"gelu_tanh": "gelu_new", "gelu": "gelu", "relu": "relu", "relu2": "relu2"},
    activation_key="hidden_act",
    biases=(
        BiasKey("use_bias", True, ("qkv", "attention_output", "feed_forward")),
        BiasKey("", True, ("norm",)),
    ),
    outer_modules=parts.OUTER_MODULES,
    block_modules=(
        *parts.NORMS,
        *parts.ATTENTION,
        module("mlp.c_fc", "feed_forward.up"),
        module("mlp.c_proj", "feed_forward.down"),
    ),
    aliases=GELU_ALIASES,
)
