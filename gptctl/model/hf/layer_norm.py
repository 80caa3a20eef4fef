"""The classes with LayerNorm and a table of positions: GPT-1, GPT-2 and GPT-Neo."""

from __future__ import annotations

from gptctl.model.hf.family import GELU_SYNONYMS, Family, Module, linear, plain

CONV_BLOCK = (
    linear("attn.c_attn", "attention.query", "attention.key", "attention.value"),
    linear("attn.c_proj", "attention.output"),
    linear("mlp.c_fc", "feed_forward.up"),
    linear("mlp.c_proj", "feed_forward.down"),
    plain("ln_1", "attention_norm", "always"),
    plain("ln_2", "feed_forward_norm", "always"),
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
    layer="transformer.h.{layer}.",
    needs=LAYER_NORM | {"norm_position": ("post",), "final_norm": (False,)},
    keys=(
        ("layers", "n_layer", 12),
        ("heads", "n_head", 12),
        ("hidden_size", "n_embd", 768),
        ("max_seq_len", "n_positions", 512),
        ("vocab_size", "vocab_size", 40478),
        ("norm_eps", "layer_norm_epsilon", 1e-5),
        ("dropout", "embd_pdrop", 0.1),
        ("dropout", "resid_pdrop", 0.1),
        ("attention_dropout", "attn_pdrop", 0.1),
        ("tie_embeddings", "tie_word_embeddings", True),
    ),
    activations={"relu": "relu", "gelu_tanh": "gelu"},  # its "gelu" is the tanh form
    activation_key="afn",
    constants={},
    around=(
        Module("transformer.tokens_embed", ("embedding",), scaled="embedding"),
        plain("transformer.positions_embed", "positions"),
    ),
    block=CONV_BLOCK,
)
GPT2 = Family(
    architecture="GPT2LMHeadModel",
    model_type="gpt2",
    prefix="transformer.",
    layer="transformer.h.{layer}.",
    needs=LAYER_NORM | {"norm_position": ("pre",), "final_norm": (True,)},
    keys=(
        ("layers", "n_layer", 12),
        ("heads", "n_head", 12),
        ("hidden_size", "n_embd", 768),
        ("intermediate_size", "n_inner", None),
        ("max_seq_len", "n_positions", 1024),
        ("vocab_size", "vocab_size", 50257),
        ("norm_eps", "layer_norm_epsilon", 1e-5),
        ("dropout", "embd_pdrop", 0.1),
        ("dropout", "resid_pdrop", 0.1),
        ("attention_dropout", "attn_pdrop", 0.1),
        ("tie_embeddings", "tie_word_embeddings", True),
    ),
    activations={"gelu_tanh": "gelu_new", "gelu": "gelu", "relu": "relu", "relu2": "relu2"},
    activation_key="activation_function",
    constants={
        "scale_attn_weights": (True, True),
        "scale_attn_by_inverse_layer_idx": (False, False),
        "add_cross_attention": (False, False),
    },
    around=(
        Module("transformer.wte", ("embedding",), scaled="embedding"),
        plain("transformer.wpe", "positions"),
        plain("transformer.ln_f", "final_norm", "always"),
    ),
    block=CONV_BLOCK,
    synonyms=GELU_SYNONYMS,
)
GPT_NEO = Family(
    architecture="GPTNeoForCausalLM",
    model_type="gpt_neo",
    prefix="transformer.",
    layer="transformer.h.{layer}.",
    needs=GPT2.needs,
    keys=(
        ("layers", "num_layers", 24),
        ("heads", "num_heads", 16),
        ("hidden_size", "hidden_size", 2048),
        ("intermediate_size", "intermediate_size", None),
        ("max_seq_len", "max_position_embeddings", 2048),
        ("sliding_window", "window_size", 256),
        ("vocab_size", "vocab_size", 50257),
        ("norm_eps", "layer_norm_epsilon", 1e-5),
        ("dropout", "embed_dropout", 0.0),
        ("dropout", "resid_dropout", 0.0),
        ("attention_dropout", "attention_dropout", 0.0),
        ("tie_embeddings", "tie_word_embeddings", True),
    ),
    activations=GPT2.activations,
    activation_key="activation_function",
    constants={},
    around=GPT2.around,
    block=(
        Module("attn.attention.q_proj", ("attention.query",), scaled="query"),  # it divides no score by sqrt(D)
        plain("attn.attention.k_proj", "attention.key"),
        plain("attn.attention.v_proj", "attention.value"),
        plain("attn.attention.out_proj", "attention.output", "always"),
        plain("mlp.c_fc", "feed_forward.up", "always"),
        plain("mlp.c_proj", "feed_forward.down", "always"),
        plain("ln_1", "attention_norm", "always"),
        plain("ln_2", "feed_forward_norm", "always"),
    ),
    synonyms=GELU_SYNONYMS,
)
