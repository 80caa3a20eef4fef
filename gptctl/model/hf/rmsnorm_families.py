"""The classes of transformers with RMSNorm and rotary positions: Llama, Arcee, Qwen3, Mixtral and Qwen3-MoE."""

from __future__ import annotations

from gptctl.model.hf.family_spec import GELU_ALIASES, Bias, ConfigKey, Family, FixedValue, ModuleMap, module

RMS_NORM = {
    "norm": ("rmsnorm",),
    "norm_position": ("pre",),
    "final_norm": (True,),
    "positions": ("rope",),
    "logit_softcap": (0.0,),
}
OUTER_MODULES = (
    ModuleMap("model.embed_tokens", ("embedding",), scaled="embedding"),
    module("model.norm", "final_norm"),
)
NORMS = (
    module("input_layernorm", "attention_norm"),
    module("post_attention_layernorm", "feed_forward_norm"),
)
ATTENTION = (
    module("self_attn.q_proj", "attention.query", "as_config"),
    module("self_attn.k_proj", "attention.key", "as_config"),
    module("self_attn.v_proj", "attention.value", "as_config"),
    module("self_attn.o_proj", "attention.output", "as_config"),
)
QK_NORMS = (
    module("self_attn.q_norm", "attention.query_norm"),
    module("self_attn.k_norm", "attention.key_norm"),
)


def rope_keys(
    *,
    vocab_size: int,
    hidden_size: int,
    intermediate_size: int,
    layers: int,
    heads: int,
    kv_heads: int | None,
    max_seq_len: int,
    norm_eps: float,
    intermediate_key: str = "intermediate_size",
) -> tuple[ConfigKey, ...]:
    """Return the keys that all classes with rotary positions share, with the defaults of one class."""
    return (
        ConfigKey("vocab_size", "vocab_size", vocab_size),
        ConfigKey("hidden_size", "hidden_size", hidden_size),
        ConfigKey("intermediate_size", intermediate_key, intermediate_size),
        ConfigKey("layers", "num_hidden_layers", layers),
        ConfigKey("heads", "num_attention_heads", heads),
        ConfigKey("kv_heads", "num_key_value_heads", kv_heads),
        ConfigKey("max_seq_len", "max_position_embeddings", max_seq_len),
        ConfigKey("norm_eps", "rms_norm_eps", norm_eps),
        ConfigKey("attention_dropout", "attention_dropout", 0.0),
        ConfigKey("tie_embeddings", "tie_word_embeddings", False),
    )


def gated(bias: Bias) -> tuple[ModuleMap, ...]:
    """Describe a gated feed-forward network. ReLU^2 is gated by its own input: relu(z)^2 = relu(z) * z."""
    return (
        module("mlp.gate_proj", "feed_forward.gate", bias),
        module("mlp.up_proj", "feed_forward.up", bias),
        module("mlp.down_proj", "feed_forward.down", bias),
    )


GATED = {"swiglu": "silu", "relu2": "relu"}
LLAMA = Family(
    architecture="LlamaForCausalLM",
    model_type="llama",
    prefix="model.",
    layer_prefix="model.layers.{layer}.",
    supported=RMS_NORM | {"qk_norm": (False,), "experts": (0,)},
    config_keys=(
        *rope_keys(
            vocab_size=32000,
            hidden_size=4096,
            intermediate_size=11008,
            layers=32,
            heads=32,
            kv_heads=None,
            max_seq_len=2048,
            norm_eps=1e-6,
        ),
        ConfigKey("bias", "mlp_bias", False),
        ConfigKey("bias", "attention_bias", False),
    ),
    activations=GATED,
    activation_key="hidden_act",
    outer_modules=OUTER_MODULES,
    block_modules=(*NORMS, *ATTENTION, *gated("as_config")),
)
ARCEE = Family(
    architecture="ArceeForCausalLM",
    model_type="arcee",
    prefix="model.",
    layer_prefix="model.layers.{layer}.",
    supported=LLAMA.supported,
    config_keys=(
        *rope_keys(
            vocab_size=32000,
            hidden_size=2560,
            intermediate_size=18432,
            layers=32,
            heads=32,
            kv_heads=None,
            max_seq_len=4096,
            norm_eps=1e-5,
        ),
        ConfigKey("bias", "mlp_bias", False),
        ConfigKey("bias", "attention_bias", False),
    ),
    activations={"relu2": "relu2", "relu": "relu", "gelu_tanh": "gelu_new", "gelu": "gelu"},
    activation_key="hidden_act",
    outer_modules=OUTER_MODULES,
    block_modules=(
        *NORMS,
        *ATTENTION,
        module("mlp.up_proj", "feed_forward.up", "as_config"),
        module("mlp.down_proj", "feed_forward.down", "as_config"),
    ),
    aliases=GELU_ALIASES,
)
QWEN3 = Family(
    architecture="Qwen3ForCausalLM",
    model_type="qwen3",
    prefix="model.",
    layer_prefix="model.layers.{layer}.",
    supported=RMS_NORM | {"qk_norm": (True,), "experts": (0,)},
    config_keys=(
        *rope_keys(
            vocab_size=151936,
            hidden_size=4096,
            intermediate_size=22016,
            layers=32,
            heads=32,
            kv_heads=32,
            max_seq_len=32768,
            norm_eps=1e-6,
        ),
        ConfigKey("bias", "attention_bias", False),
    ),
    default_head_dim=128,
    activations=GATED,
    activation_key="hidden_act",
    fixed_values={"use_sliding_window": FixedValue(False, False)},
    outer_modules=OUTER_MODULES,
    block_modules=(*NORMS, *ATTENTION, *QK_NORMS, *gated("never")),
)
MIXTRAL = Family(
    architecture="MixtralForCausalLM",
    model_type="mixtral",
    prefix="model.",
    layer_prefix="model.layers.{layer}.",
    supported=RMS_NORM | {"qk_norm": (False,), "bias": (False,)},
    config_keys=(
        *rope_keys(
            vocab_size=32000,
            hidden_size=4096,
            intermediate_size=14336,
            layers=32,
            heads=32,
            kv_heads=8,
            max_seq_len=4096 * 32,
            norm_eps=1e-5,
        ),
        ConfigKey("experts", "num_local_experts", 8),
        ConfigKey("experts_per_token", "num_experts_per_tok", 2),
    ),
    activations={"swiglu": "silu"},
    activation_key="hidden_act",
    fixed_values={"sliding_window": FixedValue(None, None)},
    default_rope_theta=1e6,
    outer_modules=OUTER_MODULES,
    block_modules=(
        *NORMS,
        *ATTENTION,
        module("block_sparse_moe.gate", "feed_forward.router"),
        module("block_sparse_moe.experts.{expert}.w1", "feed_forward.experts.gate"),
        module("block_sparse_moe.experts.{expert}.w3", "feed_forward.experts.up"),
        module("block_sparse_moe.experts.{expert}.w2", "feed_forward.experts.down"),
    ),
)
QWEN3_MOE = Family(
    architecture="Qwen3MoeForCausalLM",
    model_type="qwen3_moe",
    prefix="model.",
    layer_prefix="model.layers.{layer}.",
    supported=RMS_NORM | {"qk_norm": (True,), "bias": (False,)},
    config_keys=(
        *rope_keys(
            vocab_size=151936,
            hidden_size=2048,
            intermediate_size=768,
            layers=24,
            heads=32,
            kv_heads=4,
            max_seq_len=32768,
            norm_eps=1e-6,
            intermediate_key="moe_intermediate_size",
        ),
        ConfigKey("experts", "num_experts", 128),
        ConfigKey("experts_per_token", "num_experts_per_tok", 8),
    ),
    activations={"swiglu": "silu"},
    activation_key="hidden_act",
    fixed_values={
        "use_sliding_window": FixedValue(False, False),
        "attention_bias": FixedValue(False, False),
        "norm_topk_prob": FixedValue(True, False),  # the weights of the chosen experts sum to 1
        "decoder_sparse_step": FixedValue(1, 1),
        "mlp_only_layers": FixedValue([], []),
    },
    outer_modules=OUTER_MODULES,
    block_modules=(
        *NORMS,
        *ATTENTION,
        *QK_NORMS,
        module("mlp.gate", "feed_forward.router"),
        module("mlp.experts.{expert}.gate_proj", "feed_forward.experts.gate"),
        module("mlp.experts.{expert}.up_proj", "feed_forward.experts.up"),
        module("mlp.experts.{expert}.down_proj", "feed_forward.experts.down"),
    ),
    aliases={"num_local_experts": "num_experts"},  # transformers 5 writes the former, published models the latter
)
