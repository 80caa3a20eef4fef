"""Phi-3, Phi-3.5, Phi-4 and Phi-4-mini (Microsoft 2024): Llama with joined matrices and LongRoPE."""

from __future__ import annotations

from gptctl.model.config import ModelConfig
from gptctl.model.hf import llama_parts as parts
from gptctl.model.hf.family_spec import ConfigKey, Family, RopeKeys, Values, WindowKeys, module


def write(config: ModelConfig, values: Values) -> None:
    """Write the context of pretraining, which counts before that in rope_parameters."""
    values["original_max_position_embeddings"] = config.rope_scaling.original_max_seq_len or config.max_seq_len


FAMILY = Family(
    architecture="Phi3ForCausalLM",
    model_type="phi3",
    prefix="model.",
    layer_prefix="model.layers.{layer}.",
    constants=parts.RMS_NORM,
    config_keys=(
        *parts.config_keys(
            vocab_size=32064,
            hidden_size=3072,
            intermediate_size=8192,
            layers=32,
            heads=32,
            kv_heads=None,
            max_seq_len=4096,
            norm_eps=1e-5,
        ),
        ConfigKey("dropout", "resid_pdrop", 0.0),
        ConfigKey("dropout", "embd_pdrop", 0.0),
    ),
    has_head_dim=True,
    rope=RopeKeys(
        partial_key="partial_rotary_factor",
        default_original=4096,
        types=("none", "longrope"),
        aliases={"su": "longrope", "yarn": "longrope"},
    ),
    windows=WindowKeys("all"),
    activations={"swiglu": "silu"},
    activation_key="hidden_act",
    outer_modules=parts.OUTER_MODULES,
    block_modules=(
        *parts.NORMS,
        module("self_attn.qkv_proj", "attention.query", "attention.key", "attention.value"),
        module("self_attn.o_proj", "attention.output"),
        module("mlp.gate_up_proj", "feed_forward.gate", "feed_forward.up"),
        module("mlp.down_proj", "feed_forward.down"),
    ),
    write=write,
)
