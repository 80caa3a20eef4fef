"""The shape of a GPT of any family as a frozen config, and its presets. Needs no torch."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Literal

from pydantic import model_validator

from gptctl.core.config import Settings, Values, key
from gptctl.core.plugins import unknown
from gptctl.model.rope_scaling import RopeScaling

VOCABULARY_MULTIPLE = 64  # matrix kernels are faster with round sizes; the rows added never get probability

Norm = Literal["layernorm", "rmsnorm", "layernorm_without_weight", "rmsnorm_plus_one"]
NormPosition = Literal["pre", "post", "output", "pre_and_output"]
Residual = Literal["sequential", "parallel", "parallel_shared_norm"]
Positions = Literal["sinusoidal", "learned", "rope"]
LayerType = Literal["full", "sliding"]
Activation = Literal["relu", "gelu_tanh", "gelu", "swiglu", "relu2", "geglu_tanh", "geglu"]
BiasPart = Literal["qkv", "attention_output", "feed_forward", "norm"]
Initialization = Literal["xavier", "normal", "gpt2", "zero_out"]


class ModelConfig(Settings):
    """The sizes and choices that distinguish one decoder-only Transformer from another."""

    layers: int = key(12, "Number of blocks.", ge=1)
    heads: int = key(12, "Attention heads of each block.", ge=1)
    kv_heads: int = key(0, "Key and value heads (grouped-query attention); 0 means the same number as heads.", ge=0)
    head_dim: int = key(0, "Size of each attention head; 0 means hidden_size / heads.", ge=0)
    hidden_size: int = key(768, "Size of the hidden states (the residual stream).", ge=1)
    intermediate_size: int = key(3072, "Size of the hidden layer of each feed-forward network.", ge=1)
    max_seq_len: int = key(1024, "Maximum sequence length (context) in tokens.", ge=1)
    vocab_size: int = key(
        50257,
        "Tokens of the tokenizer. In memory it is padded to a multiple of 64; parameter counts leave the padding out.",
        ge=2,
    )
    end_of_text: int = key(
        -1, "Id of the token that ends each document and precedes the next; -1 if there is none.", ge=-1
    )
    norm: Norm = key(
        "layernorm", "Normalization layer. rmsnorm_plus_one multiplies by 1 + weight, whose initial value is 0."
    )
    norm_position: NormPosition = key(
        "pre",
        "Normalize before attention and feed-forward (pre), their outputs (output), both (pre_and_output), or after "
        "their residual addition (post, as in 2017).",
    )
    residual: Residual = key(
        "sequential",
        "Feed-forward after attention, or both side by side, with one norm each (parallel) or one in common.",
    )
    residual_multiplier: float = key(1.0, "Factor of what attention and feed-forward add to the residual stream.", gt=0)
    final_norm: bool = key(True, "Normalize once more before the output head.")
    norm_eps: float = key(1e-5, "Epsilon of the normalization, added to the variance.", gt=0)
    positions: Positions = key("learned", "Position encoding: sinusoidal table, learned table, or rotary (RoPE).")
    rope_theta: float = key(10000.0, "Base of the rotary position encoding's frequencies.", gt=0)
    sliding_rope_theta: float = key(
        0.0,
        "Base of the rotary encoding in sliding layers, which is then not scaled; 0 means that of all layers.",
        ge=0,
    )
    partial_rotary_factor: float = key(1.0, "Share of each head that the rotary encoding rotates.", gt=0, le=1)
    rope_pattern: tuple[bool, ...] = key(
        (True,), "Whether each layer has rotary positions, repeated over the layers.", min_length=1
    )
    rope_scaling: RopeScaling = RopeScaling()
    activation: Activation = key(
        "gelu_tanh", "Activation of the feed-forward network. swiglu and both kinds of geglu are gated."
    )
    experts: int = key(
        0, "Feed-forward networks (experts) per block; 0 means one feed-forward network and no router.", ge=0
    )
    experts_per_token: int = key(
        2, "Experts that process each token. At least 2, because the router learns from their relative weights.", ge=2
    )
    norm_topk_prob: bool = key(True, "Divide the probabilities of the chosen experts by their sum.")
    shared_expert_intermediate_size: int = key(
        0, "Hidden size of an expert that processes every token, beside the others; 0 means none.", ge=0
    )
    layer_pattern: tuple[LayerType, ...] = key(
        ("full",),
        "Attention of each layer, repeated over the layers: full sees every earlier token, sliding the last ones.",
        min_length=1,
    )
    sliding_window: int = key(256, "Tokens that a sliding layer sees, the current token included.", ge=1)
    bias: bool = key(True, "Add biases to linear layers and LayerNorms.")
    bias_parts: tuple[BiasPart, ...] = key(
        ("qkv", "attention_output", "feed_forward", "norm"), "Parts that have biases."
    )
    qk_norm: bool = key(False, "Normalize queries and keys.")
    qk_norm_over: Literal["head", "width"] = key("head", "Normalize queries and keys in each head, or over all heads.")
    clip_qkv: float = key(0.0, "Clip queries, keys and values to +-this value; 0 does not.", ge=0)
    attention_multiplier: float = key(0.0, "Factor of the attention logits; 0 means 1/sqrt(head_dim).", ge=0)
    attention_softcap: float = key(0.0, "Bound the attention logits to +-this value by tanh; 0 does not.", ge=0)
    tie_embeddings: bool = key(True, "Use the embedding matrix as the output head, too.")
    embedding_scale: bool = key(False, "Multiply embeddings by sqrt(hidden_size).")
    embedding_multiplier: float = key(1.0, "Multiply embeddings by this factor.", gt=0)
    dropout: float = key(0.0, "Dropout on the embeddings and on the outputs of attention and feed-forward.", ge=0, lt=1)
    attention_dropout: float = key(0.0, "Dropout on the attention weights; slow on the CPU.", ge=0, lt=1)
    logit_softcap: float = key(0.0, "Bound the logits to +-this value by tanh; 0 does not.", ge=0)
    logits_scaling: float = key(1.0, "Divide the logits by this value.", gt=0)
    architecture: str = key(
        "", "Class of transformers that exports are for; empty means the first one that computes the model."
    )
    init: Initialization = key("gpt2", "Initialization of the weights, described in gptctl/model/initialize.py.")

    @model_validator(mode="after")
    def shapes_fit(self) -> ModelConfig:
        """Raise ValueError for sizes that do not fit together."""
        if not self.head_dim and self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of heads {self.heads}")
        if self.kv_heads and self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}")
        if self.positions == "rope":
            self.check_rope()
        if self.residual != "sequential" and self.norm_position != "pre":
            raise ValueError(f'residual = "{self.residual}" needs norm_position = "pre"')
        if self.experts and self.experts_per_token > self.experts:
            raise ValueError(f"experts_per_token {self.experts_per_token} is more than experts {self.experts}")
        if self.experts and (self.activation != "swiglu" or self.has_bias("feed_forward")):
            raise ValueError('experts need activation = "swiglu" and no biases in feed_forward, as with bias = false')
        if self.experts and self.residual != "sequential":
            raise ValueError('experts need residual = "sequential"')
        return self

    def check_rope(self) -> None:
        """Raise ValueError for sizes that do not fit the rotary encoding."""
        if self.rotary_dim % 2 or not self.rotary_dim:
            raise ValueError(f"rope needs an even number of rotated entries in each head, not {self.rotary_dim}")
        if self.rope_scaling.rope_type == "longrope":
            for name in ("short_factor", "long_factor"):
                if len(getattr(self.rope_scaling, name)) != self.rotary_dim // 2:
                    raise ValueError(f"rope_scaling.{name} needs {self.rotary_dim // 2} numbers")

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        found = super().without_effect()
        if self.positions != "rope":
            keys = ["rope_theta", "sliding_rope_theta", "partial_rotary_factor", "rope_pattern"]
            keys += [f"rope_scaling.{name}" for name in RopeScaling.model_fields]
            found |= dict.fromkeys(keys, f"with positions {self.positions}")
        if "sliding" not in self.layer_pattern:
            found |= dict.fromkeys(("sliding_window", "sliding_rope_theta"), "where no layer is sliding")
        if not self.experts:
            expert_keys = ("experts_per_token", "norm_topk_prob", "shared_expert_intermediate_size")
            found |= dict.fromkeys(expert_keys, "without experts")
        if not self.bias:
            found["bias_parts"] = "without bias"
        if not self.qk_norm:
            found["qk_norm_over"] = "without qk_norm"
        return found

    def has_bias(self, part: BiasPart) -> bool:
        """Return whether a part of each block has biases; "norm" is about all LayerNorms."""
        return self.bias and part in self.bias_parts

    @property
    def is_gated(self) -> bool:
        """Whether the feed-forward network has a gate."""
        return self.activation in ("swiglu", "geglu", "geglu_tanh")

    @property
    def resolved_head_dim(self) -> int:
        """The size of one attention head: `head_dim`, or hidden_size / heads where that is 0."""
        return self.head_dim or self.hidden_size // self.heads

    @property
    def query_size(self) -> int:
        """The size of the queries of all heads, and of their outputs."""
        return self.heads * self.resolved_head_dim

    @property
    def resolved_attention_multiplier(self) -> float:
        """The factor of the attention logits: `attention_multiplier`, or 1/sqrt(head_dim) where that is 0."""
        return self.attention_multiplier or float(self.resolved_head_dim**-0.5)

    @property
    def rotary_dim(self) -> int:
        """How many entries of each head the rotary encoding rotates."""
        return int(self.resolved_head_dim * self.partial_rotary_factor)

    @property
    def resolved_kv_heads(self) -> int:
        """The number of key and value heads: `kv_heads`, or `heads` where that is 0."""
        return self.kv_heads or self.heads

    @property
    def padded_vocab_size(self) -> int:
        """The number of rows of the embedding in memory."""
        return -(-self.vocab_size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE

    def layer_window(self, layer: int) -> int:
        """Return how many tokens a layer's attention sees, the current one included; 0 means all."""
        kind = self.layer_pattern[layer % len(self.layer_pattern)]
        return self.sliding_window if kind == "sliding" else 0

    def matrix_parameters(self) -> int:
        """Count the matrix weights in the blocks that process one token: of the experts, those it is routed to."""
        return self.count_matrix_parameters(self.experts_per_token)

    def parameters(self) -> int:
        """Count all parameters in closed form, without the padding of the vocabulary."""
        return self.count_matrix_parameters(self.experts) + self.other_parameters()

    def active_parameters(self) -> int:
        """Count the parameters that process one token: all but those of the experts that it is not routed to."""
        return self.matrix_parameters() + self.other_parameters()

    def rope_name(self, layer: int) -> str:
        """Return which rotary tables a layer has: "rope", "sliding_rope", or "" for none."""
        if self.positions != "rope" or not self.rope_pattern[layer % len(self.rope_pattern)]:
            return ""
        return "sliding_rope" if self.sliding_rope_theta and self.layer_window(layer) else "rope"

    def count_matrix_parameters(self, experts: int) -> int:
        """Count the matrix weights in the blocks; a mixture of experts counts with `experts` of them per block."""
        attention = 2 * self.hidden_size * (self.query_size + self.resolved_kv_heads * self.resolved_head_dim)
        feed_forward = (3 if self.is_gated else 2) * self.hidden_size * self.intermediate_size
        if self.experts:
            feed_forward = experts * feed_forward + self.experts * self.hidden_size  # and the router
            if self.shared_expert_intermediate_size:
                feed_forward += self.hidden_size * (3 * self.shared_expert_intermediate_size + 1)
        return self.layers * (attention + feed_forward)

    def other_parameters(self) -> int:
        """Count the parameters of embeddings, head, norms and biases."""
        norm_size = self.norm_parameters(self.hidden_size)
        norms = (4 if self.norm_position == "pre_and_output" else 2) - (self.residual == "parallel_shared_norm")
        per_block = norms * norm_size
        keys = self.resolved_kv_heads * self.resolved_head_dim
        if self.qk_norm:
            per_block += 2 * self.resolved_head_dim if self.qk_norm_over == "head" else self.query_size + keys
        per_block += self.has_bias("qkv") * (self.query_size + 2 * keys)
        per_block += self.has_bias("attention_output") * self.hidden_size
        hidden = self.intermediate_size * (2 if self.is_gated else 1)
        per_block += self.has_bias("feed_forward") * (hidden + self.hidden_size)
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tie_embeddings else 2)
        learned = self.max_seq_len * self.hidden_size if self.positions == "learned" else 0
        return self.layers * per_block + embeddings + learned + norm_size * self.final_norm

    def norm_parameters(self, size: int) -> int:
        """Count the parameters of one norm over `size` entries."""
        if self.norm == "layernorm_without_weight":
            return 0
        return size * (2 if self.norm == "layernorm" and self.has_bias("norm") else 1)


def preset_names() -> list[str]:
    """Return the names of the presets, sorted. Each is one TOML file."""
    folder = resources.files(__package__) / "presets"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_preset(name: str) -> Values:
    """Return a preset's tables {"model": {...}, "training": {...}}. Raises UsageError (2) for an unknown name."""
    known = preset_names()
    if name not in known:
        raise unknown("preset", name, known)
    text = (resources.files(__package__) / "presets" / f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
