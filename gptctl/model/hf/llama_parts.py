"""What the classes of transformers that descend from Llama have in common: names of settings and modules."""

from __future__ import annotations

from gptctl.model.hf.family_spec import ConfigKey, ModuleMap, module

RMS_NORM = {"norm": "rmsnorm", "positions": "rope"}
GATED = {"swiglu": "silu", "relu2": "relu"}  # ReLU^2 is gated by its own input: relu(z)^2 = relu(z) * z
OUTER_MODULES = (
    ModuleMap("model.embed_tokens", ("embedding",), scaled="embedding"),
    module("model.norm", "final_norm"),
)
NORMS = (
    module("input_layernorm", "attention_norm"),
    module("post_attention_layernorm", "feed_forward_norm"),
)
ATTENTION = (
    module("self_attn.q_proj", "attention.query"),
    module("self_attn.k_proj", "attention.key"),
    module("self_attn.v_proj", "attention.value"),
    module("self_attn.o_proj", "attention.output"),
)
QK_NORMS = (
    module("self_attn.q_norm", "attention.query_norm"),
    module("self_attn.k_norm", "attention.key_norm"),
)
GATED_FEED_FORWARD = (
    module("mlp.gate_proj", "feed_forward.gate"),
    module("mlp.up_proj", "feed_forward.up"),
    module("mlp.down_proj", "feed_forward.down"),
)


def config_keys(
    *,
    vocab_size: int,
    hidden_size: int,
    intermediate_size: int,
    layers: int,
    heads: int,
    kv_heads: int | None,
    max_seq_len: int,
    norm_eps: float,
    tie_embeddings: bool = False,
    intermediate_key: str = "intermediate_size",
    norm_eps_key: str = "rms_norm_eps",
) -> tuple[ConfigKey, ...]:
    """Return the keys that these classes share, with the defaults of one class."""
    return (
        ConfigKey("vocab_size", "vocab_size", vocab_size),
        ConfigKey("hidden_size", "hidden_size", hidden_size),
        ConfigKey("intermediate_size", intermediate_key, intermediate_size),
        ConfigKey("layers", "num_hidden_layers", layers),
        ConfigKey("heads", "num_attention_heads", heads),
        ConfigKey("kv_heads", "num_key_value_heads", kv_heads),
        ConfigKey("max_seq_len", "max_position_embeddings", max_seq_len),
        ConfigKey("norm_eps", norm_eps_key, norm_eps),
        ConfigKey("attention_dropout", "attention_dropout", 0.0),
        ConfigKey("tie_embeddings", "tie_word_embeddings", tie_embeddings),
    )
