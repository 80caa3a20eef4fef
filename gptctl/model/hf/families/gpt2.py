"""GPT-2 (Radford et al. 2019)."""

from __future__ import annotations

from gptctl.model.hf.family_spec import (
    GELU_ALIASES,
    BiasKey,
    ConfigKey,
    Family,
    FixedValue,
    ModuleMap,
    conv1d,
    module,
)

ALIASES = {
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
}

FAMILY = Family(
    architecture="GPT2LMHeadModel",
    model_type="gpt2",
    prefix="transformer.",
    layer_prefix="transformer.h.{layer}.",
    constants={},
    config_keys=(
        ConfigKey("layers", "n_layer", 12),
        ConfigKey("heads", "n_head", 12),
        ConfigKey("hidden_size", "n_embd", 768),
        ConfigKey("intermediate_size", "n_inner", None),
        ConfigKey("max_seq_len", "n_positions", 1024),
        ConfigKey("vocab_size", "vocab_size", 50257),
        ConfigKey("norm_eps", "layer_norm_epsilon", 1e-5),
        ConfigKey("dropout", "embd_pdrop", 0.1),
        ConfigKey("dropout", "resid_pdrop", 0.1),
        ConfigKey("attention_dropout", "attn_pdrop", 0.1),
        ConfigKey("tie_embeddings", "tie_word_embeddings", True),
    ),
    activations={"gelu_tanh": "gelu_new", "gelu": "gelu", "relu": "relu", "relu2": "relu2"},
    activation_key="activation_function",
    biases=(BiasKey("", True, ("qkv", "attention_output", "feed_forward", "norm")),),
    fixed_values={
        "scale_attn_weights": FixedValue(True, True),
        "scale_attn_by_inverse_layer_idx": FixedValue(False, False),
        "add_cross_attention": FixedValue(False, False),
    },
    outer_modules=(
        ModuleMap("transformer.wte", ("embedding",), scaled="embedding"),
        module("transformer.wpe", "positions"),
        module("transformer.ln_f", "final_norm"),
    ),
    block_modules=(
        conv1d("attn.c_attn", "attention.query", "attention.key", "attention.value"),
        conv1d("attn.c_proj", "attention.output"),
        conv1d("mlp.c_fc", "feed_forward.up"),
        conv1d("mlp.c_proj", "feed_forward.down"),
        module("ln_1", "attention_norm"),
        module("ln_2", "feed_forward_norm"),
    ),
    aliases=GELU_ALIASES | ALIASES,
)
