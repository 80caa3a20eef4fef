"""The shape of a GPT of any family, as data: one frozen model and a folder of presets. Needs no torch."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Literal

from pydantic import model_validator

from gptctl.core.config import Settings, Values, key
from gptctl.core.plugins import unknown

VOCABULARY_MULTIPLE = 64  # matrix kernels like round sizes; the rows added never get probability

Norm = Literal["layernorm", "rmsnorm"]
Positions = Literal["sinusoidal", "learned", "rope"]
LayerType = Literal["full", "sliding"]
Activation = Literal["relu", "gelu_tanh", "gelu", "swiglu", "relu2"]
Initialization = Literal["xavier", "normal", "gpt2", "zero_out"]


class ModelConfig(Settings):
    """Every number and choice that makes one decoder-only Transformer differ from another."""

    layers: int = key(12, "Blocks.", ge=1)
    heads: int = key(12, "Attention heads per block.", ge=1)
    kv_heads: int = key(0, "Key and value heads (grouped-query attention); 0 means as many as heads.", ge=0)
    hidden_size: int = key(768, "Size of the residual stream.", ge=1)
    intermediate_size: int = key(3072, "Size of the hidden layer of each feed-forward network.", ge=1)
    max_seq_len: int = key(1024, "Longest sequence, in tokens.", ge=1)
    vocab_size: int = key(50257, "Symbols of the tokenizer; padded inside to a multiple of 64, counted unpadded.", ge=2)
    end_of_text: int = key(-1, "Id of the token that ends each document and stands before the next; -1 if none.", ge=-1)
    norm: Norm = key("layernorm", "Normalisation.")
    norm_position: Literal["pre", "post"] = key("pre", "Normalise before each part, or after adding it (as in 2017).")
    final_norm: bool = key(True, "Normalise once more before the head.")
    norm_eps: float = key(1e-5, "Added to the variance.", gt=0)
    positions: Positions = key("learned", "How a position is told: a table of sines, a learned table, or rotation.")
    rope_theta: float = key(10000.0, "Base of the rotation's wavelengths.", gt=0)
    activation: Activation = key("gelu_tanh", "Non-linearity of the feed-forward part.")
    experts: int = key(0, "Feed-forward parts per block, of which each token takes a few; 0 has one for all.", ge=0)
    experts_per_token: int = key(
        2, "Experts of its block that a token takes; the router learns from how it weighs them, so 2 or more.", ge=2
    )
    layer_pattern: tuple[LayerType, ...] = key(
        ("full",),
        "Attention of each layer, repeated over the layers: full sees every earlier token, sliding the last ones.",
        min_length=1,
    )
    sliding_window: int = key(256, "Tokens that a sliding layer sees, the current token included.", ge=1)
    bias: bool = key(True, "Biases in linear layers and LayerNorms.")
    qk_norm: bool = key(False, "Normalise queries and keys per head.")
    tie_embeddings: bool = key(True, "Use the embedding as the head.")
    embedding_scale: bool = key(False, "Multiply embeddings by sqrt(hidden_size).")
    dropout: float = key(0.0, "Dropout on the embedding and on what each part adds.", ge=0, lt=1)
    attention_dropout: float = key(0.0, "Dropout on attention weights; slow on the CPU.", ge=0, lt=1)
    logit_softcap: float = key(0.0, "Bound logits to +-this value by tanh; 0 leaves them.", ge=0)
    init: Initialization = key("gpt2", "How weights start: see gptctl/model/initialize.py.")

    @model_validator(mode="after")
    def shapes_fit(self) -> ModelConfig:
        """Refuse sizes that do not divide."""
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

    @property
    def head_dim(self) -> int:
        """Size of one head."""
        return self.hidden_size // self.heads

    @property
    def resolved_kv_heads(self) -> int:
        """Key and value heads, with 0 resolved."""
        return self.kv_heads or self.heads

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding in memory."""
        return -(-self.vocab_size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE

    def layer_window(self, layer: int) -> int:
        """Return how many tokens a layer's attention sees, the current one included; 0 means all."""
        kind = self.layer_pattern[layer % len(self.layer_pattern)]
        return self.sliding_window if kind == "sliding" else 0

    def matrix_parameters(self) -> int:
        """Count the weights that each token is multiplied with inside the blocks: of experts, those it takes."""
        return self.count_matrices(self.experts_per_token)

    def parameters(self) -> int:
        """Count all parameters in closed form; the padding of the vocabulary does not count."""
        return self.count_matrices(self.experts) + self.other_parameters()

    def active_parameters(self) -> int:
        """Count the parameters that take part in one token: all of them but for experts that it does not take."""
        return self.matrix_parameters() + self.other_parameters()

    def count_matrices(self, experts: int) -> int:
        """Count the weights of the blocks' matrices with so many experts, if there are experts at all."""
        attention = self.hidden_size * self.head_dim * (2 * self.heads + 2 * self.resolved_kv_heads)
        feed_forward = (3 if self.activation == "swiglu" else 2) * self.hidden_size * self.intermediate_size
        if self.experts:
            feed_forward = experts * feed_forward + self.experts * self.hidden_size  # and the router
        return self.layers * (attention + feed_forward)

    def other_parameters(self) -> int:
        """Count embeddings, head, norms and biases."""
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
    """List the presets, sorted: one TOML file each."""
    folder = resources.files(__package__) / "presets"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_preset(name: str) -> Values:
    """Return a preset's tables {"model": {...}, "training": {...}}. Raises UsageError (2) for an unknown name."""
    known = preset_names()
    if name not in known:
        raise unknown("preset", name, known)
    text = (resources.files(__package__) / "presets" / f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
