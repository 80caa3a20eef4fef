"""Mistral (Jiang et al. 2023): Llama with a sliding window."""

from __future__ import annotations

from gptctl.model.hf import llama_parts as parts
from gptctl.model.hf.family_spec import Family, RopeKeys, Values, WindowKeys


def read(values: Values, ours: Values, unsupported: list[str]) -> None:
    """Refuse layers of two types, with which transformers computes another class."""
    if values.get("layer_types"):
        unsupported.append("layer_types")


FAMILY = Family(
    architecture="MistralForCausalLM",
    model_type="mistral",
    prefix="model.",
    layer_prefix="model.layers.{layer}.",
    constants=parts.RMS_NORM,
    config_keys=parts.config_keys(
        vocab_size=32000,
        hidden_size=4096,
        intermediate_size=14336,
        layers=32,
        heads=32,
        kv_heads=8,
        max_seq_len=4096 * 32,
        norm_eps=1e-6,
    ),
    has_head_dim=True,
    rope=RopeKeys(),
    windows=WindowKeys("all", default=4096),
    activations=parts.GATED,
    activation_key="hidden_act",
    outer_modules=parts.OUTER_MODULES,
    block_modules=(*parts.NORMS, *parts.ATTENTION, *parts.GATED_FEED_FORWARD),
    read=read,
)
