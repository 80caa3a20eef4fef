"""GPT-NeoX and Pythia (Black et al. 2022; Biderman et al. 2023): attention and feed-forward side by side."""

from __future__ import annotations

from gptctl.model.config import ModelConfig
from gptctl.model.hf.family_spec import (
    GELU_ALIASES,
    BiasKey,
    ConfigKey,
    Family,
    ModuleMap,
    RopeKeys,
    Values,
    module,
)


def read(values: Values, ours: Values, unsupported: list[str]) -> None:
    """Read whether attention and feed-forward are side by side."""
    ours["residual"] = "parallel" if values.get("use_parallel_residual", True) else "sequential"


def write(config: ModelConfig, values: Values) -> None:
    """Write whether attention and feed-forward are side by side."""
    values["use_parallel_residual"] = config.residual == "parallel"


FAMILY = Family(
    architecture="GPTNeoXForCausalLM",
    model_type="gpt_neox",
    prefix="gpt_neox.",
    layer_prefix="gpt_neox.layers.{layer}.",
    constants={"positions": "rope"},
    config_keys=(
        ConfigKey("vocab_size", "vocab_size", 50432),
        ConfigKey("hidden_size", "hidden_size", 6144),
        ConfigKey("intermediate_size", "intermediate_size", 24576),
        ConfigKey("layers", "num_hidden_layers", 44),
        ConfigKey("heads", "num_attention_heads", 64),
        ConfigKey("max_seq_len", "max_position_embeddings", 2048),
        ConfigKey("norm_eps", "layer_norm_eps", 1e-5),
        ConfigKey("dropout", "hidden_dropout", 0.0),
        ConfigKey("attention_dropout", "attention_dropout", 0.0),
        ConfigKey("tie_embeddings", "tie_word_embeddings", False),
    ),
    rope=RopeKeys(theta_key="rotary_emb_base", partial_key="rotary_pct", default_partial=0.25),
    activations={"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu", "relu2": "relu2"},
    activation_key="hidden_act",
    biases=(
        BiasKey("attention_bias", True, ("qkv", "attention_output")),
        BiasKey("", True, ("feed_forward", "norm")),
    ),
    outer_modules=(
        ModuleMap("gpt_neox.embed_in", ("embedding",), scaled="embedding"),
        module("gpt_neox.final_layer_norm", "final_norm"),
    ),
    block_modules=(
        module("input_layernorm", "attention_norm"),
        module("post_attention_layernorm", "feed_forward_norm"),
        ModuleMap(
            "attention.query_key_value", ("attention.query", "attention.key", "attention.value"), by_kv_head=True
        ),
        module("attention.dense", "attention.output"),
        module("mlp.dense_h_to_4h", "feed_forward.up"),
        module("mlp.dense_4h_to_h", "feed_forward.down"),
    ),
    aliases=GELU_ALIASES,
    head_name="embed_out",
    read=read,
    write=write,
)
