"""Gemma 3, text (Gemma Team 2025): normalized queries and keys, and another rotary base in sliding layers."""

from __future__ import annotations

from gptctl.model.hf import llama_parts as parts
from gptctl.model.hf.families import gemma, gemma2
from gptctl.model.hf.family_spec import ConfigKey, Family, FixedValue, RopeKeys, Values, WindowKeys


def window_types(values: Values, layers: int) -> list[str]:
    """Return the types of layers without the key layer_types: all but every sixth slide."""
    period = values.get("sliding_window_pattern", 6)
    return ["sliding_attention" if (layer + 1) % period else "full_attention" for layer in range(layers)]


FAMILY = Family(
    architecture="Gemma3ForCausalLM",
    model_type="gemma3_text",
    prefix="model.",
    layer_prefix="model.layers.{layer}.",
    constants=gemma.CONSTANTS | {"norm_position": "pre_and_output", "qk_norm": True},
    config_keys=(
        *parts.config_keys(
            vocab_size=262208,
            hidden_size=2304,
            intermediate_size=9216,
            layers=26,
            heads=8,
            kv_heads=4,
            max_seq_len=131072,
            norm_eps=1e-6,
            tie_embeddings=True,
        ),
        ConfigKey("logit_softcap", "final_logit_softcapping", None, zero_is_none=True),
    ),
    has_head_dim=True,
    default_head_dim=256,
    rope=RopeKeys(default_theta=1e6, by_layer_type=True, sliding_theta_key="rope_local_base_freq"),
    windows=WindowKeys("layer_types", default=4096, default_types=window_types),
    activations=gemma.ACTIVATIONS,
    activation_key="hidden_activation",
    biases=gemma.BIASES,
    fixed_values=gemma.CAUSAL | {"attn_logit_softcapping": FixedValue(None, None)},  # which transformers passes over
    outer_modules=gemma.OUTER_MODULES,
    block_modules=(*gemma2.NORMS, *parts.ATTENTION, *parts.QK_NORMS, *parts.GATED_FEED_FORWARD),
    read=gemma2.read,
    write=gemma2.write,
)
