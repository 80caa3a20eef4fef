"""SmolLM3 (Hugging Face 2025): Llama without positions in every fourth layer."""

from __future__ import annotations

from gptctl.model.config import ModelConfig
from gptctl.model.hf import llama_parts as parts
from gptctl.model.hf.families import llama
from gptctl.model.hf.family_spec import Family, RopeKeys, Values, WindowKeys


def layers_with_rope(values: Values, layers: int) -> list[bool]:
    """Return which layers have rotary positions."""
    interval = values.get("no_rope_layer_interval", 4)
    told = values.get("no_rope_layers")
    if told is None:
        told = [(layer + 1) % interval != 0 for layer in range(layers)]
    return [bool(has_rope) for has_rope in told[:layers]]


def window_types(values: Values, layers: int) -> list[str]:
    """Return the types of layers without the key layer_types: those without positions slide."""
    return ["full_attention" if has_rope else "sliding_attention" for has_rope in layers_with_rope(values, layers)]


def read(values: Values, ours: Values, unsupported: list[str]) -> None:
    """Read which layers have rotary positions."""
    ours["rope_pattern"] = layers_with_rope(values, ours["layers"])
    if len(ours["rope_pattern"]) < ours["layers"]:
        unsupported.append(f"no_rope_layers of {len(ours['rope_pattern'])} layers, not {ours['layers']}")


def write(config: ModelConfig, values: Values) -> None:
    """Write which layers have rotary positions."""
    values["no_rope_layers"] = [int(bool(config.rope_name(layer))) for layer in range(config.layers)]


FAMILY = Family(
    architecture="SmolLM3ForCausalLM",
    model_type="smollm3",
    prefix="model.",
    layer_prefix="model.layers.{layer}.",
    constants=parts.RMS_NORM,
    config_keys=parts.config_keys(
        vocab_size=128256,
        hidden_size=2048,
        intermediate_size=11008,
        layers=36,
        heads=16,
        kv_heads=4,
        max_seq_len=32768,
        norm_eps=1e-6,
        tie_embeddings=True,
    ),
    has_head_dim=True,
    rope=RopeKeys(default_theta=2e6),
    windows=WindowKeys("layer_types", switch="use_sliding_window", default_types=window_types),
    activations=parts.GATED,
    activation_key="hidden_act",
    biases=llama.FAMILY.biases,
    outer_modules=parts.OUTER_MODULES,
    block_modules=llama.FAMILY.block_modules,
    read=read,
    write=write,
)
