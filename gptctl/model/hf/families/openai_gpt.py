"""GPT-1 (Radford et al. 2018)."""

from __future__ import annotations

from gptctl.model.hf.families import gpt2
from gptctl.model.hf.family_spec import ConfigKey, Family, ModuleMap, module

FAMILY = Family(
    architecture="OpenAIGPTLMHeadModel",
    model_type="openai-gpt",
    prefix="transformer.",
    layer_prefix="transformer.h.{layer}.",
    constants={"norm_position": "post", "final_norm": False},
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
    activations={"gelu_tanh": "gelu", "relu": "relu"},  # its "gelu" is the tanh approximation
    activation_key="afn",
    intermediate_factor=4,
    biases=gpt2.FAMILY.biases,
    outer_modules=(
        ModuleMap("transformer.tokens_embed", ("embedding",), scaled="embedding"),
        module("transformer.positions_embed", "positions"),
    ),
    block_modules=gpt2.FAMILY.block_modules,
)
