"""StableLM 2 and StableLM-3B (Bellagente et al. 2024): LayerNorm, and rotary positions in a part of each head."""

from __future__ import annotations

from gptctl.model.config import ModelConfig
from gptctl.model.hf import llama_parts as parts
from gptctl.model.hf.family_spec import BiasKey, ConfigKey, Family, FixedValue, ModuleMap, RopeKeys, Values, module


def read(values: Values, ours: Values, unsupported: list[str]) -> None:
    """Read whether attention and feed-forward are side by side."""
    ours["residual"] = "parallel_shared_norm" if values.get("use_parallel_residual") else "sequential"


def write(config: ModelConfig, values: Values) -> None:
    """Write whether attention and feed-forward are side by side."""
    values["use_parallel_residual"] = config.residual == "parallel_shared_norm"


def modules(config: ModelConfig) -> tuple[ModuleMap, ...]:
    """Return the norm of the feed-forward network, if it has one of its own."""
    own = module("post_attention_layernorm", "feed_forward_norm")
    return () if config.residual == "parallel_shared_norm" else (own,)


FAMILY = Family(
    architecture="StableLmForCausalLM",
    model_type="stablelm",
    prefix="model.",
    layer_prefix="model.layers.{layer}.",
    constants={"positions": "rope"},
    config_keys=(
        *parts.config_keys(
            vocab_size=50304,
            hidden_size=2560,
            intermediate_size=6912,
            layers=32,
            heads=32,
            kv_heads=32,
            max_seq_len=4096,
            norm_eps=1e-5,
            norm_eps_key="layer_norm_eps",
        ),
        ConfigKey("dropout", "hidden_dropout", 0.0),
    ),
    rope=RopeKeys(partial_key="partial_rotary_factor", default_partial=0.25),
    activations=parts.GATED,
    activation_key="hidden_act",
    biases=(BiasKey("use_qkv_bias", False, ("qkv",)), BiasKey("", True, ("norm",))),
    fixed_values={"qk_layernorm": FixedValue(False, False)},
    outer_modules=parts.OUTER_MODULES,
    block_modules=(module("input_layernorm", "attention_norm"), *parts.ATTENTION, *parts.GATED_FEED_FORWARD),
    read=read,
    write=write,
    modules=modules,
)
