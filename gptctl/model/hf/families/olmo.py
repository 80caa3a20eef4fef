"""OLMo (Groeneveld et al. 2024): norms without weights."""

from __future__ import annotations

from gptctl.model.hf import llama_parts as parts
from gptctl.model.hf.family_spec import BiasKey, ConfigKey, Family, RopeKeys

BIASES = (BiasKey("attention_bias", False, ("qkv", "attention_output")),)

FAMILY = Family(
    architecture="OlmoForCausalLM",
    model_type="olmo",
    prefix="model.",
    layer_prefix="model.layers.{layer}.",
    constants={"norm": "layernorm_without_weight", "positions": "rope", "norm_eps": 1e-5},
    config_keys=(
        *(
            key
            for key in parts.config_keys(
                vocab_size=50304,
                hidden_size=4096,
                intermediate_size=11008,
                layers=32,
                heads=32,
                kv_heads=None,
                max_seq_len=2048,
                norm_eps=1e-5,
            )
            if key.name != "norm_eps"
        ),
        ConfigKey("clip_qkv", "clip_qkv", None, zero_is_none=True),
    ),
    has_head_dim=True,
    rope=RopeKeys(),
    activations=parts.GATED,
    activation_key="hidden_act",
    biases=BIASES,
    outer_modules=parts.OUTER_MODULES[:1],
    block_modules=(*parts.ATTENTION, *parts.GATED_FEED_FORWARD),
)
