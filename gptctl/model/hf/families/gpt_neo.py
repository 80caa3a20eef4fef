"""GPT-Neo (Black et al. 2021): GPT-2 with local attention in every other layer."""

from __future__ import annotations

from gptctl.model.hf.families import gpt2
from gptctl.model.hf.family_spec import GELU_ALIASES, BiasKey, ConfigKey, Family, ModuleMap, WindowKeys, module

FAMILY = Family(
    architecture="GPTNeoForCausalLM",
    model_type="gpt_neo",
    prefix="transformer.",
    layer_prefix="transformer.h.{layer}.",
    constants={},
    config_keys=(
        ConfigKey("layers", "num_layers", 24),
        ConfigKey("heads", "num_heads", 16),
        ConfigKey("hidden_size", "hidden_size", 2048),
        ConfigKey("intermediate_size", "intermediate_size", None),
        ConfigKey("max_seq_len", "max_position_embeddings", 2048),
        ConfigKey("sliding_window", "window_size", 256),
        ConfigKey("vocab_size", "vocab_size", 50257),
        ConfigKey("norm_eps", "layer_norm_epsilon", 1e-5),
        ConfigKey("dropout", "embed_dropout", 0.0),
        ConfigKey("dropout", "resid_dropout", 0.0),
        ConfigKey("attention_dropout", "attention_dropout", 0.0),
        ConfigKey("tie_embeddings", "tie_word_embeddings", True),
    ),
    activations=gpt2.FAMILY.activations,
    activation_key="activation_function",
    biases=(BiasKey("", True, ("attention_output", "feed_forward", "norm")),),
    windows=WindowKeys("attention_layers"),
    outer_modules=gpt2.FAMILY.outer_modules,
    block_modules=(
        # The class does not divide attention scores by sqrt(head_dim).
        ModuleMap("attn.attention.q_proj", ("attention.query",), scaled="query"),
        module("attn.attention.k_proj", "attention.key"),
        module("attn.attention.v_proj", "attention.value"),
        module("attn.attention.out_proj", "attention.output"),
        module("mlp.c_fc", "feed_forward.up"),
        module("mlp.c_proj", "feed_forward.down"),
        module("ln_1", "attention_norm"),
        module("ln_2", "feed_forward_norm"),
    ),
    aliases=GELU_ALIASES | {"num_hidden_layers": "num_layers", "num_attention_heads": "num_heads"},
)
