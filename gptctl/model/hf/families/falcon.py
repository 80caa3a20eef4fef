"""Falcon (Almazrouei et al. 2023): few key-value heads, attention and feed-forward side by side."""

from __future__ import annotations

from gptctl.model.config import ModelConfig
from gptctl.model.hf.family_spec import (
    GELU_ALIASES,
    BiasKey,
    ConfigKey,
    Family,
    FixedValue,
    ModuleMap,
    RopeKeys,
    Values,
    module,
)


def read(values: Values, ours: Values, unsupported: list[str]) -> None:
    """Read key-value heads and norms, which differ between Falcon-7B and Falcon-40B."""
    if values.get("new_decoder_architecture", False):
        ours["kv_heads"] = values.get("num_kv_heads") or ours["heads"]
        has_two = values.get("num_ln_in_parallel_attn") in (None, 2)
        ours["residual"] = "parallel" if has_two else "parallel_shared_norm"
    else:
        ours["kv_heads"] = 1 if values.get("multi_query", True) else ours["heads"]
        ours["residual"] = "parallel_shared_norm" if values.get("parallel_attn", True) else "sequential"


def write(config: ModelConfig, values: Values) -> None:
    """Write key-value heads and norms."""
    kv_heads = config.resolved_kv_heads
    is_new = config.residual == "parallel" or kv_heads not in (1, config.heads)
    values["new_decoder_architecture"] = is_new
    values["num_ln_in_parallel_attn"] = (2 if config.residual == "parallel" else 1) if is_new else None
    values["multi_query"] = kv_heads == 1
    values["num_kv_heads"] = kv_heads
    values["parallel_attn"] = config.residual != "sequential"


def modules(config: ModelConfig) -> tuple[ModuleMap, ...]:
    """Return the norms."""
    if config.residual == "parallel":
        return module("ln_attn", "attention_norm"), module("ln_mlp", "feed_forward_norm")
    first, second = module("input_layernorm", "attention_norm"), module("post_attention_layernorm", "feed_forward_norm")
    return (first, second) if config.residual == "sequential" else (first,)


FAMILY = Family(
    architecture="FalconForCausalLM",
    model_type="falcon",
    prefix="transformer.",
    layer_prefix="transformer.h.{layer}.",
    constants={"positions": "rope"},
    config_keys=(
        ConfigKey("vocab_size", "vocab_size", 65024),
        ConfigKey("hidden_size", "hidden_size", 4544),
        ConfigKey("intermediate_size", "ffn_hidden_size", None),
        ConfigKey("layers", "num_hidden_layers", 32),
        ConfigKey("heads", "num_attention_heads", 71),
        ConfigKey("max_seq_len", "max_position_embeddings", 2048),
        ConfigKey("norm_eps", "layer_norm_epsilon", 1e-5),
        ConfigKey("dropout", "hidden_dropout", 0.0),
        ConfigKey("attention_dropout", "attention_dropout", 0.0),
        ConfigKey("tie_embeddings", "tie_word_embeddings", True),
    ),
    rope=RopeKeys(),
    activations={"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu", "relu2": "relu2"},
    activation_key="activation",
    biases=(
        BiasKey("bias", False, ("qkv", "attention_output", "feed_forward")),
        BiasKey("", True, ("norm",)),
    ),
    fixed_values={"alibi": FixedValue(False, False)},
    outer_modules=(
        ModuleMap("transformer.word_embeddings", ("embedding",), scaled="embedding"),
        module("transformer.ln_f", "final_norm"),
    ),
    block_modules=(
        ModuleMap(
            "self_attention.query_key_value", ("attention.query", "attention.key", "attention.value"), by_kv_head=True
        ),
        module("self_attention.dense", "attention.output"),
        module("mlp.dense_h_to_4h", "feed_forward.up"),
        module("mlp.dense_4h_to_h", "feed_forward.down"),
    ),
    aliases=GELU_ALIASES,
    read=read,
    write=write,
    modules=modules,
)
