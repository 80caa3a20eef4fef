"""The shape of a GPT of any family as a frozen config, and its presets. Needs no torch."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Literal

from pydantic import model_validator

from gptctl.core.config import Settings, Values, key
from gptctl.core.plugins import unknown

VOCABULARY_MULTIPLE = 64  # matrix kernels are faster with round sizes; the rows added never get probability

Norm = Literal["layernorm", "rmsnorm"]
Positions = Literal["sinusoidal", "learned", "rope"]
LayerType = Literal["full", "sliding"]
Activation = Literal["relu", "gelu_tanh", "gelu", "swiglu", "relu2"]
Initialization = Literal["xavier", "normal", "gpt2", "zero_out"]


class ModelConfig(Settings):
    """The sizes and choices that distinguish one decoder-only Transformer from another."""

    layers: int = key(12, "Number of blocks.", ge=1)
    heads: int = key(12, "Attention heads of each block.", ge=1)
    kv_heads: int = key(0, "Key and value heads (grouped-query attention); 0 means the same number as heads.", ge=0)
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
    norm: Norm = key("layernorm", "Normalization layer.")
    norm_position: Literal["pre", "post"] = key(
        "pre", "Normalize before attention and feed-forward (pre), or after their residual addition (post, as in 2017)."
    )
    final_norm: bool = key(True, "Normalize once more before the output head.")
    norm_eps: float = key(1e-5, "Epsilon of the normalization, added to the variance.", gt=0)
    positions: Positions = key("learned", "Position encoding: sinusoidal table, learned table, or rotary (RoPE).")
    rope_theta: float = key(10000.0, "Base of the rotary position encoding's frequencies.", gt=0)
    activation: Activation = key("gelu_tanh", "Activation of the feed-forward network.")
    experts: int = key(
        0, "Feed-forward networks (experts) per block; 0 means one feed-forward network and no router.", ge=0
    )
    experts_per_token: int = key(
        2, "Experts that process each token. At least 2, because the router learns from their relative weights.", ge=2
    )
    layer_pattern: tuple[LayerType, ...] = key(
        ("full",),
        "Attention of each layer, repeated over the layers: full sees every earlier token, sliding the last ones.",
        min_length=1,
    )
    sliding_window: int = key(256, "Tokens that a sliding layer sees, the current token included.", ge=1)
    bias: bool = key(True, "Add biases to linear layers and LayerNorms.")
    qk_norm: bool = key(False, "Normalize queries and keys in each head.")
    tie_embeddings: bool = key(True, "Use the embedding matrix as the output head, too.")
    embedding_scale: bool = key(False, "Multiply embeddings by sqrt(hidden_size).")
    dropout: float = key(0.0, "Dropout on the embeddings and on the outputs of attention and feed-forward.", ge=0, lt=1)
    attention_dropout: float = key(0.0, "Dropout on the attention weights; slow on the CPU.", ge=0, lt=1)
    logit_softcap: float = key(0.0, "Bound the logits to +-this value by tanh; 0 does not.", ge=0)
    init: Initialization = key("gpt2", "Initialization of the weights, described in gptctl/model/initialize.py.")

    @model_validator(mode="after")
    def shapes_fit(self) -> ModelConfig:
        """Raise ValueError for sizes that do not fit together."""
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of heads {self.heads}")
        if self.kv_heads and self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}")
        if self.positions == "rope" and self.head_dim % 2:
            raise ValueError(f"rope needs an even head_dim, not {self.head_dim}")
        if self.experts and self.experts_per_token > self.experts:
            raise ValueError(f"experts_per_token {self.experts_per_token} is more than experts {self.experts}")
        if self.experts and (self.activation != "swiglu" or self.bias):
            raise ValueError('experts need activation = "swiglu" and bias = false')
        return self

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        found = super().without_effect()
        if self.positions != "rope":
            found["rope_theta"] = f"with positions {self.positions}"
        if "sliding" not in self.layer_pattern:
            found["sliding_window"] = "where no layer is sliding"
        if not self.experts:
            found |= dict.fromkeys(("experts_per_token",), "without experts")
        return found

    @property
    def head_dim(self) -> int:
        """The size of one attention head."""
        return self.hidden_size // self.heads

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

    def count_matrix_parameters(self, experts: int) -> int:
        """Count the matrix weights in the blocks; a mixture of experts counts with `experts` of them per block."""
        attention = self.hidden_size * self.head_dim * (2 * self.heads + 2 * self.resolved_kv_heads)
        feed_forward = (3 if self.activation == "swiglu" else 2) * self.hidden_size * self.intermediate_size
        if self.experts:
            feed_forward = experts * feed_forward + self.experts * self.hidden_size  # and the router
        return self.layers * (attention + feed_forward)

    def other_parameters(self) -> int:
        """Count the parameters of embeddings, head, norms and biases."""
        norm_size = self.hidden_size * (2 if self.bias and self.norm == "layernorm" else 1)
        per_block = 2 * norm_size + (2 * self.head_dim if self.qk_norm else 0)
        if self.bias:
            hidden = self.intermediate_size * (2 if self.activation == "swiglu" else 1)
            per_block += (
                self.head_dim * (self.heads + 2 * self.resolved_kv_heads) + self.hidden_size + hidden + self.hidden_size
            )
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tie_embeddings else 2)
        learned = self.max_seq_len * self.hidden_size if self.positions == "learned" else 0
        return self.layers * per_block + embeddings + learned + norm_size * self.final_norm


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
