"""Arcee AFM: Llama with a feed-forward network of ReLU^2."""

from __future__ import annotations

from gptctl.model.hf import llama_parts as parts
from gptctl.model.hf.families import llama
from gptctl.model.hf.family_spec import GELU_ALIASES, Family, RopeKeys, module

FAMILY = Family(
    architecture="ArceeForCausalLM",
    model_type="arcee",
    prefix="model.",
    layer_prefix="model.layers.{layer}.",
    constants=parts.RMS_NORM,
    config_keys=parts.config_keys(
        vocab_size=32000,
        hidden_size=2560,
        intermediate_size=18432,
        layers=32,
        heads=32,
        kv_heads=None,
        max_seq_len=4096,
        norm_eps=1e-5,
    ),
    has_head_dim=True,
    rope=RopeKeys(),
    activations={"relu2": "relu2", "relu": "relu", "gelu_tanh": "gelu_new", "gelu": "gelu"},
    activation_key="hidden_act",
    biases=llama.FAMILY.biases,
    outer_modules=parts.OUTER_MODULES,
    block_modules=(
        *parts.NORMS,
        *parts.ATTENTION,
        module("mlp.up_proj", "feed_forward.up"),
        module("mlp.down_proj", "feed_forward.down"),
    ),
    aliases=GELU_ALIASES,
)
