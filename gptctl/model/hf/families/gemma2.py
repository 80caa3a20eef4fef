"""Gemma 2 (Gemma Team 2024): norms before and after sublayers, bounded logits, sliding windows."""

from __future__ import annotations

from gptctl.model.config import ModelConfig
from gptctl.model.hf import llama_parts as parts
from gptctl.model.hf.families import gemma
from gptctl.model.hf.family_spec import ConfigKey, Family, RopeKeys, Values, WindowKeys, module

NORMS = (
    module("input_layernorm", "attention_norm"),
    module("post_attention_layernorm", "attention_output_norm"),
    module("pre_feedforward_layernorm", "feed_forward_norm"),
    module("post_feedforward_layernorm", "feed_forward_output_norm"),
)


def window_types(values: Values, layers: int) -> list[str]:
    """Return the types of layers without the key layer_types: every other one slides."""
    return ["full_attention" if layer % 2 else "sliding_attention" for layer in range(layers)]


def read(values: Values, ours: Values, unsupported: list[str]) -> None:
    """Read the factor of the attention logits."""
    ours["attention_multiplier"] = values.get("query_pre_attn_scalar", 256) ** -0.5


def write(config: ModelConfig, values: Values) -> None:
    """Write the factor of the attention logits."""
    values["query_pre_attn_scalar"] = round(config.resolved_attention_multiplier**-2)


FAMILY = Family(
    architecture="Gemma2ForCausalLM",
    model_type="gemma2",
    prefix="model.",
    layer_prefix="model.layers.{layer}.",
    constants=gemma.CONSTANTS | {"norm_position": "pre_and_output"},
    config_keys=(
        *parts.config_keys(
            vocab_size=256000,
            hidden_size=2304,
            intermediate_size=9216,
            layers=26,
            heads=8,
            kv_heads=4,
            max_seq_len=8192,
            norm_eps=1e-6,
            tie_embeddings=True,
        ),
        ConfigKey("logit_softcap", "final_logit_softcapping", 30.0, zero_is_none=True),
        ConfigKey("attention_softcap", "attn_logit_softcapping", 50.0, zero_is_none=True),
    ),
    has_head_dim=True,
    default_head_dim=256,
    rope=RopeKeys(),
    windows=WindowKeys("layer_types", default=4096, default_types=window_types),
    activations=gemma.ACTIVATIONS,
    activation_key="hidden_activation",
    biases=gemma.BIASES,
    fixed_values=gemma.CAUSAL,
    outer_modules=gemma.OUTER_MODULES,
    block_modules=(*NORMS, *parts.ATTENTION, *parts.GATED_FEED_FORWARD),
    read=read,
    write=write,
)
