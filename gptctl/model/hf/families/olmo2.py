"""OLMo 2 (OLMo Team 2024): norms of the outputs of sublayers, and of all queries and keys together."""

from __future__ import annotations

from gptctl.model.hf import llama_parts as parts
from gptctl.model.hf.families import olmo
from gptctl.model.hf.family_spec import Family, RopeKeys, module

CONSTANTS = parts.RMS_NORM | {"norm_position": "output", "qk_norm": True, "qk_norm_over": "width"}
BLOCK_MODULES = (
    module("post_attention_layernorm", "attention_output_norm"),
    module("post_feedforward_layernorm", "feed_forward_output_norm"),
    *parts.ATTENTION,
    *parts.QK_NORMS,
    *parts.GATED_FEED_FORWARD,
)

FAMILY = Family(
    architecture="Olmo2ForCausalLM",
    model_type="olmo2",
    prefix="model.",
    layer_prefix="model.layers.{layer}.",
    constants=CONSTANTS,
    config_keys=parts.config_keys(
        vocab_size=50304,
        hidden_size=4096,
        intermediate_size=11008,
        layers=32,
        heads=32,
        kv_heads=None,
        max_seq_len=2048,
        norm_eps=1e-5,
    ),
    has_head_dim=True,
    rope=RopeKeys(),
    activations=parts.GATED,
    activation_key="hidden_act",
    biases=olmo.BIASES,
    outer_modules=parts.OUTER_MODULES,
    block_modules=BLOCK_MODULES,
)
