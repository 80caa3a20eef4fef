"""Writing of a model and its tokenizer into one GGUF file.

Norms, biases, positions and routers stay in float32, as in llama.cpp's own conversions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gptctl.core.errors import UsageError
from gptctl.core.extras import require
from gptctl.model.config import ModelConfig
from gptctl.model.files.lazy_tensor import LazyTensor, lazily
from gptctl.model.gguf.tensors import (
    approximations,
    gguf_architecture,
    gguf_context,
    gguf_tensors,
    unsupported_reason,
)
from gptctl.model.gguf.tokenizer import HINT, read_vocabulary, write_vocabulary
from gptctl.model.gpt import GPT
from gptctl.model.hf.family_lookup import closest_family
from gptctl.model.rope import longrope_factor

WeightType = Literal["float32", "float16", "q8_0"]
FLOAT32_TENSORS = ("position_embd", "ffn_gate_inp")


def write_gguf(
    path: Path,
    model: GPT,
    tokenizer_json: str,
    extra: dict[str, Any],
    weight_type: WeightType = "float32",
    weights: Mapping[str, LazyTensor] | None = None,
    warn: Callable[[str], None] = lambda message: None,
) -> None:
    """Write a model and its tokenizer into one file, one tensor after the other.

    `weights` under our names replace those of the model, which may then be on the meta device. `warn` is called with
    what llama.cpp computes only nearly, or not in every case.

    Raises UsageError (2), before anything is written, if GGUF cannot store them; MachineError (4) without gguf.
    """
    gguf: Any = require("gguf")
    config = model.config
    if reason := unsupported_reason(config):
        raise UsageError(reason, HINT)
    for note in approximations(config):
        warn(note)
    vocabulary = read_vocabulary(tokenizer_json, config, extra)
    architecture = gguf_architecture(config)
    writer = gguf.GGUFWriter(path, architecture.name)
    write_metadata(writer, config, gguf, weight_type)
    write_vocabulary(writer, vocabulary, config, extra)
    tensors = gguf_tensors(weights or lazily(model.state_dict()), config, closest_family(config), architecture)
    types = {name: stored_type(gguf, name, tensor.shape, weight_type) for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        block_size, block_bytes = gguf.GGML_QUANT_SIZES[types[name]]
        size = math.prod(tensor.shape) // block_size * block_bytes
        writer.add_tensor_info(name, tensor.shape, np.dtype(np.float32), size, types[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, tensor in tensors.items():
        writer.write_tensor_data(gguf.quants.quantize(tensor.read().contiguous().numpy(), types[name]))
    writer.close()


def write_metadata(writer: Any, config: ModelConfig, gguf: Any, weight_type: WeightType) -> None:
    """Write the sizes of a model."""
    files = gguf.LlamaFileType
    types = {"float32": files.ALL_F32, "float16": files.MOSTLY_F16, "q8_0": files.MOSTLY_Q8_0}
    writer.add_type("model")
    writer.add_name("gptctl")
    writer.add_file_type(types[weight_type])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(gguf_context(config))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.heads)
    writer.add_vocab_size(config.vocab_size)
    if config.norm.startswith("layernorm"):
        writer.add_layer_norm_eps(config.norm_eps)
    else:
        writer.add_layer_norm_rms_eps(config.norm_eps)
    if config.positions != "rope":
        return
    writer.add_head_count_kv(config.resolved_kv_heads)
    write_rope(writer, config, gguf)
    writer.add_key_length(config.resolved_head_dim)
    writer.add_value_length(config.resolved_head_dim)
    if config.experts:
        writer.add_expert_count(config.experts)
        writer.add_expert_used_count(config.experts_per_token)
        writer.add_expert_feed_forward_length(config.intermediate_size)
        if config.shared_expert_intermediate_size:
            writer.add_expert_shared_feed_forward_length(config.shared_expert_intermediate_size)
    write_choices(writer, config)


def write_choices(writer: Any, config: ModelConfig) -> None:
    """Write what only some architectures have."""
    architecture = gguf_architecture(config)
    if architecture.sliding:
        writer.add_sliding_window(config.sliding_window)
    if config.attention_softcap:
        writer.add_attn_logit_softcapping(config.attention_softcap)
    if config.logit_softcap:
        writer.add_final_logit_softcapping(config.logit_softcap)
    if config.clip_qkv:
        writer.add_clamp_kqv(config.clip_qkv)
    if architecture.name in ("stablelm", "gptneox"):
        writer.add_parallel_residual(config.residual != "sequential")
    if architecture.name == "granite":
        writer.add_embedding_scale(config.embedding_multiplier)
        writer.add_attention_scale(config.resolved_attention_multiplier)
        writer.add_residual_scale(config.residual_multiplier)
        writer.add_logit_scale(config.logits_scaling)


def write_rope(writer: Any, config: ModelConfig, gguf: Any) -> None:
    """Write the settings of rotary positions. The scalings of Llama 3 and of LongRoPE are tensors, rope_freqs etc."""
    scaling, types = config.rope_scaling, gguf.RopeScalingType
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_dimension_count(config.rotary_dim)
    if scaling.rope_type == "longrope":
        original = scaling.original_max_seq_len or config.max_seq_len
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_scaling_attn_factors(longrope_factor(scaling, original))
    if scaling.rope_type not in ("linear", "yarn"):
        return
    writer.add_rope_scaling_type(types.LINEAR if scaling.rope_type == "linear" else types.YARN)
    writer.add_rope_scaling_factor(scaling.factor)
    if scaling.rope_type == "yarn":
        writer.add_rope_scaling_orig_ctx_len(scaling.original_max_seq_len or config.max_seq_len)
        writer.add_rope_scaling_yarn_beta_fast(scaling.beta_fast)
        writer.add_rope_scaling_yarn_beta_slow(scaling.beta_slow)


def stored_type(gguf: Any, name: str, shape: Sequence[int], weight_type: WeightType) -> Any:
    """Return the requested type, or a more precise one where a tensor's shape or use needs that."""
    types = gguf.GGMLQuantizationType
    wanted = {"float32": types.F32, "float16": types.F16, "q8_0": types.Q8_0}[weight_type]
    if len(shape) < 2 or any(part in name for part in FLOAT32_TENSORS):
        return types.F32
    return types.F16 if wanted == types.Q8_0 and shape[-1] % gguf.GGML_QUANT_SIZES[types.Q8_0][0] else wanted
