"""The classes of transformers with LayerNorm and learned positions: GPT-1, GPT-2 and GPT-Neo."""

from __future__ import annotations

from gptctl.model.hf.family_spec import GELU_ALIASES, ConfigKey, Family, FixedValue, ModuleMap, conv1d, module

CONV_BLOCK = (
    conv1d("attn.c_attn", "attention.query", "attention.key", "attention.value"),
    conv1d("attn.c_proj", "attention.output"),
    conv1d("mlp.c_fc", "feed_forward.up"),
    conv1d("mlp.c_proj", "feed_forward.down"),
    module("ln_1", "attention_norm", "always"),
    module("ln_2", "feed_forward_norm", "always"),
)
LAYER_NORM = {
    "norm": ("layernorm",),
    "positions": ("learned", "sinusoidal"),
    "qk_norm": (False,),
    "experts": (0,),
    "logit_softcap": (0.0,),
}

OPENAI = Family(
    architecture="OpenAIGPTLMHeadModel",
    model_type="openai-gpt",
    prefix="transformer.",
    layer_prefix="transformer.h.{layer}.",
    supported=LAYER_NORM | {"norm_position": ("post",), "final_norm": (False,)},
    config_keys=(
        ConfigKey("layers", "n_layer", 12),
        ConfigKey("heads", "n_head", 12),
        ConfigKey("hidden_size", "n_embd", 768),
        ConfigKey("max_seq_len", "n_positions", 512),
        ConfigKey("vocab_size", "vocab_size", 40478),
        ConfigKey("norm_eps", "layer_norm_epsilon", 1e-5),
        ConfigKey("dropout", "embd_pdrop", 0.1),
        ConfigKey("dropout", "resid_pdrop", 0.1),
        ConfigKey("attention_dropout", "attn_pdrop", 0.1),
        ConfigKey("tie_embeddings", "tie_word_embeddings", True),
    ),
    activations={"relu": "relu", "gelu_tanh": "gelu"},  # its "gelu" is the tanh approximation
    activation_key="afn",
    intermediate_factor=4,
    outer_modules=(
        ModuleMap("transformer.tokens_embed", ("embedding",), scaled="embedding"),
        module("transformer.positions_embed", "positions"),
    ),
    block_modules=CONV_BLOCK,
)
GPT2 = Family(
    architecture="GPT2LMHeadModel",
    model_type="gpt2",
    prefix="transformer.",
    layer_prefix="transformer.h.{layer}.",
    supported=LAYER_NORM | {"norm_position": ("pre",), "final_norm": (True,)},
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
    fixed_values={
        "scale_attn_weights": FixedValue(True, True),
        "scale_attn_by_inverse_layer_idx": FixedValue(False, False),
        "add_cross_attention": FixedValue(False, False),
    },
    outer_modules=(
        ModuleMap("transformer.wte", ("embedding",), scaled="embedding"),
        module("transformer.wpe", "positions"),
        module("transformer.ln_f", "final_norm", "always"),
    ),
    block_modules=CONV_BLOCK,
    aliases=GELU_ALIASES,
)
GPT_NEO = Family(
    architecture="GPTNeoForCausalLM",
    model_type="gpt_neo",
    prefix="transformer.",
    layer_prefix="transformer.h.{layer}.",
    supported=GPT2.supported,
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
    activations=GPT2.activations,
    activation_key="activation_function",
    layer_types_key="attention_layers",
    outer_modules=GPT2.outer_modules,
    block_modules=(
        # The class does not divide attention scores by sqrt(head_dim).
        ModuleMap("attn.attention.q_proj", ("attention.query",), scaled="query"),
        module("attn.attention.k_proj", "attention.key"),
        module("attn.attention.v_proj", "attention.value"),
        module("attn.attention.out_proj", "attention.output", "always"),
        module("mlp.c_fc", "feed_forward.up", "always"),
        module("mlp.c_proj", "feed_forward.down", "always"),
        module("ln_1", "attention_norm", "always"),
        module("ln_2", "feed_forward_norm", "always"),
    ),
    aliases=GELU_ALIASES,
)
