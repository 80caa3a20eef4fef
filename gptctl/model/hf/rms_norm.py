"""The classes with RMSNorm and rotary positions: Llama, Arcee, Qwen3, Mixtral and Qwen3-MoE."""

from __future__ import annotations

from typing import Any

from gptctl.model.hf.family import GELU_SYNONYMS, Bias, Family, Module, plain

RMS_NORM = {
    "norm": ("rmsnorm",),
    "norm_position": ("pre",),
    "final_norm": (True,),
    "positions": ("rope",),
    "logit_softcap": (0.0,),
}
ROPE_AROUND = (
    Module("model.embed_tokens", ("embedding",), scaled="embedding"),
    plain("model.norm", "final_norm"),
)
ROPE_NORMS = (
    plain("input_layernorm", "attention_norm"),
    plain("post_attention_layernorm", "feed_forward_norm"),
)
ROPE_ATTENTION = (
    plain("self_attn.q_proj", "attention.query", "ours"),
    plain("self_attn.k_proj", "attention.key", "ours"),
    plain("self_attn.v_proj", "attention.value", "ours"),
    plain("self_attn.o_proj", "attention.output", "ours"),
)
QK_NORMS = (
    plain("self_attn.q_norm", "attention.query_norm"),
    plain("self_attn.k_norm", "attention.key_norm"),
)


def rope_keys(
    vocab_size: int, width: int, hidden: int, layers: int, heads: int, kv_heads: int | None, context: int, eps: float
) -> tuple[tuple[str, str, Any], ...]:
    """Return the settings that all classes with rotary positions share, with a class's defaults."""
    return (
        ("vocab_size", "vocab_size", vocab_size),
        ("hidden_size", "hidden_size", width),
        ("intermediate_size", "intermediate_size", hidden),
        ("layers", "num_hidden_layers", layers),
        ("heads", "num_attention_heads", heads),
        ("kv_heads", "num_key_value_heads", kv_heads),
        ("max_seq_len", "max_position_embeddings", context),
        ("norm_eps", "rms_norm_eps", eps),
        ("attention_dropout", "attention_dropout", 0.0),
        ("tie_embeddings", "tie_word_embeddings", False),
    )


def gated(bias: Bias) -> tuple[Module, ...]:
    """Describe a gated feed-forward part. relu(z) * z is relu(z)^2: ReLU^2 is gated by its own input (see tensors)."""
    return (
        plain("mlp.gate_proj", "feed_forward.gate", bias),
        plain("mlp.up_proj", "feed_forward.up", bias),
        plain("mlp.down_proj", "feed_forward.down", bias),
    )


GATED = {"swiglu": "silu", "relu2": "relu"}
LLAMA = Family(
    architecture="LlamaForCausalLM",
    model_type="llama",
    prefix="model.",
    layer="model.layers.{layer}.",
    needs=RMS_NORM | {"qk_norm": (False,), "experts": (0,)},
    keys=(
        *rope_keys(32000, 4096, 11008, 32, 32, None, 2048, 1e-6),
        ("bias", "mlp_bias", False),
        ("bias", "attention_bias", False),
    ),
    activations=GATED,
    activation_key="hidden_act",
    constants={},
    around=ROPE_AROUND,
    block=(*ROPE_NORMS, *ROPE_ATTENTION, *gated("ours")),
)
ARCEE = Family(
    architecture="ArceeForCausalLM",
    model_type="arcee",
    prefix="model.",
    layer="model.layers.{layer}.",
    needs=LLAMA.needs,
    keys=(
        *rope_keys(32000, 2560, 18432, 32, 32, None, 4096, 1e-5),
        ("bias", "mlp_bias", False),
        ("bias", "attention_bias", False),
    ),
    activations={"relu2": "relu2", "relu": "relu", "gelu_tanh": "gelu_new", "gelu": "gelu"},
    activation_key="hidden_act",
    constants={},
    around=ROPE_AROUND,
    block=(
        *ROPE_NORMS,
        *ROPE_ATTENTION,
        plain("mlp.up_proj", "feed_forward.up", "ours"),
        plain("mlp.down_proj", "feed_forward.down", "ours"),
    ),
    synonyms=GELU_SYNONYMS,
)
QWEN3 = Family(
    architecture="Qwen3ForCausalLM",
    model_type="qwen3",
    prefix="model.",
    layer="model.layers.{layer}.",
    needs=RMS_NORM | {"qk_norm": (True,), "experts": (0,)},
    keys=(*rope_keys(151936, 4096, 22016, 32, 32, 32, 32768, 1e-6), ("bias", "attention_bias", False)),
    activations=GATED,
    activation_key="hidden_act",
    constants={"use_sliding_window": (False, False)},
    around=ROPE_AROUND,
    block=(*ROPE_NORMS, *ROPE_ATTENTION, *QK_NORMS, *gated("never")),
)
MIXTRAL = Family(
    architecture="MixtralForCausalLM",
    model_type="mixtral",
    prefix="model.",
    layer="model.layers.{layer}.",
    needs=RMS_NORM | {"qk_norm": (False,), "bias": (False,)},
    keys=(
        *rope_keys(32000, 4096, 14336, 32, 32, 8, 4096 * 32, 1e-5),
        ("experts", "num_local_experts", 8),
        ("experts_per_token", "num_experts_per_tok", 2),
    ),
    activations={"swiglu": "silu"},
    activation_key="hidden_act",
    constants={"sliding_window": (None, None)},
    around=ROPE_AROUND,
    block=(
        *ROPE_NORMS,
        *ROPE_ATTENTION,
        plain("block_sparse_moe.gate", "feed_forward.router"),
        plain("block_sparse_moe.experts.{expert}.w1", "feed_forward.experts.gate"),
        plain("block_sparse_moe.experts.{expert}.w3", "feed_forward.experts.up"),
        plain("block_sparse_moe.experts.{expert}.w2", "feed_forward.experts.down"),
    ),
)
QWEN3_MOE = Family(
    architecture="Qwen3MoeForCausalLM",
    model_type="qwen3_moe",
    prefix="model.",
    layer="model.layers.{layer}.",
    needs=RMS_NORM | {"qk_norm": (True,), "bias": (False,)},
    keys=(
        *[
            (ours, "moe_intermediate_size" if ours == "intermediate_size" else theirs, default)
            for ours, theirs, default in rope_keys(151936, 2048, 768, 24, 32, 4, 32768, 1e-6)
        ],
        ("experts", "num_experts", 128),
        ("experts_per_token", "num_experts_per_tok", 8),
    ),
    activations={"swiglu": "silu"},
    activation_key="hidden_act",
    constants={
        "use_sliding_window": (False, False),
        "attention_bias": (False, False),
        "norm_topk_prob": (True, False),  # the weights of the chosen experts add up to 1
        "decoder_sparse_step": (1, 1),
        "mlp_only_layers": ([], []),
    },
    around=ROPE_AROUND,
    block=(
        *ROPE_NORMS,
        *ROPE_ATTENTION,
        *QK_NORMS,
        plain("mlp.gate", "feed_forward.router"),
        plain("mlp.experts.{expert}.gate_proj", "feed_forward.experts.gate"),
        plain("mlp.experts.{expert}.up_proj", "feed_forward.experts.up"),
        plain("mlp.experts.{expert}.down_proj", "feed_forward.experts.down"),
    ),
    synonyms={"num_local_experts": "num_experts"},  # transformers 5 writes the former, published models have the latter
)
