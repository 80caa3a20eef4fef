"""Granite 3 (IBM 2024): Llama with factors of embeddings, attention, residual stream and logits."""

from __future__ import annotations

from gptctl.model.config import ModelConfig
from gptctl.model.hf import llama_parts as parts
from gptctl.model.hf.families import llama
from gptctl.model.hf.family_spec import ConfigKey, Family, RopeKeys, Values


def write(config: ModelConfig, values: Values) -> None:
    """Write the factor of the attention logits, which has no default there."""
    values["attention_multiplier"] = config.resolved_attention_multiplier


FAMILY = Family(
    architecture="GraniteForCausalLM",
    model_type="granite",
    prefix="model.",
    layer_prefix="model.layers.{layer}.",
    constants=parts.RMS_NORM,
    config_keys=(
        *parts.config_keys(
            vocab_size=32000,
            hidden_size=4096,
            intermediate_size=11008,
            layers=32,
            heads=32,
            kv_heads=None,
            max_seq_len=2048,
            norm_eps=1e-6,
        ),
        ConfigKey("embedding_multiplier", "embedding_multiplier", 1.0),
        ConfigKey("attention_multiplier", "attention_multiplier", 1.0),
        ConfigKey("residual_multiplier", "residual_multiplier", 1.0),
        ConfigKey("logits_scaling", "logits_scaling", 1.0),
    ),
    has_head_dim=True,
    rope=RopeKeys(),
    activations=parts.GATED,
    activation_key="hidden_act",
    biases=llama.FAMILY.biases,
    outer_modules=parts.OUTER_MODULES,
    block_modules=llama.FAMILY.block_modules,
    write=write,
)
