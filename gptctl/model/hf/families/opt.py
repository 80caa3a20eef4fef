"""OPT (Zhang et al. 2022), but for OPT-350M, whose embeddings are projected."""

from __future__ import annotations

from gptctl.model.hf.family_spec import (
    GELU_ALIASES,
    BiasKey,
    ConfigKey,
    Family,
    FixedValue,
    ModuleMap,
    Values,
    module,
)


def read(values: Values, ours: Values, unsupported: list[str]) -> None:
    """Refuse embeddings of another size than the hidden states."""
    size = values.get("word_embed_proj_dim")
    if size not in (None, ours["hidden_size"]):
        unsupported.append(f"word_embed_proj_dim = {size}, not hidden_size")


FAMILY = Family(
    architecture="OPTForCausalLM",
    model_type="opt",
    prefix="model.decoder.",
    layer_prefix="model.decoder.layers.{layer}.",
    constants={"norm_eps": 1e-5},
    config_keys=(
        ConfigKey("vocab_size", "vocab_size", 50272),
        ConfigKey("hidden_size", "hidden_size", 768),
        ConfigKey("intermediate_size", "ffn_dim", 3072),
        ConfigKey("layers", "num_hidden_layers", 12),
        ConfigKey("heads", "num_attention_heads", 12),
        ConfigKey("max_seq_len", "max_position_embeddings", 2048),
        ConfigKey("dropout", "dropout", 0.1),
        ConfigKey("attention_dropout", "attention_dropout", 0.0),
        ConfigKey("tie_embeddings", "tie_word_embeddings", True),
    ),
    activations={"relu": "relu", "gelu": "gelu", "gelu_tanh": "gelu_new", "relu2": "relu2"},
    activation_key="activation_function",
    biases=(
        BiasKey("enable_bias", True, ("qkv", "attention_output", "feed_forward")),
        BiasKey("", True, ("norm",)),
    ),
    fixed_values={
        "do_layer_norm_before": FixedValue(True, True),
        "_remove_final_layer_norm": FixedValue(False, False),
        "layer_norm_elementwise_affine": FixedValue(True, True),
    },
    outer_modules=(
        ModuleMap("model.decoder.embed_tokens", ("embedding",), scaled="embedding"),
        ModuleMap("model.decoder.embed_positions", ("positions",), unused_rows=2),
        module("model.decoder.final_layer_norm", "final_norm"),
    ),
    block_modules=(
        module("self_attn.q_proj", "attention.query"),
        module("self_attn.k_proj", "attention.key"),
        module("self_attn.v_proj", "attention.value"),
        module("self_attn.out_proj", "attention.output"),
        module("self_attn_layer_norm", "attention_norm"),
        module("fc1", "feed_forward.up"),
        module("fc2", "feed_forward.down"),
        module("final_layer_norm", "feed_forward_norm"),
    ),
    aliases=GELU_ALIASES,
    read=read,
)
