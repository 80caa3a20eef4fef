"""config.json of published models, and of models that gptctl does not compute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gptctl.core.errors import DataError
from gptctl.model.files.tensor_files import open_weights
from gptctl.model.folder import check_size, load_model
from gptctl.model.hf.config_import import read_model_config
from gptctl.model.rope_scaling import RopeScaling
from tests.model.hf.test_transformers import CASES, build, exported


@pytest.mark.parametrize(
    ("told", "parameters", "facts"),
    [
        (  # HuggingFaceTB/SmolLM2-135M
            {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 576, "num_attention_heads": 9,
             "intermediate_size": 1536, "num_hidden_layers": 30, "num_key_value_heads": 3, "rms_norm_eps": 1e-5,
             "vocab_size": 49152, "max_position_embeddings": 8192, "rope_theta": 100000, "rope_scaling": None,
             "tie_word_embeddings": True, "eos_token_id": 0, "rope_interleaved": False},
            134_515_008, {"rope_theta": 100000.0, "activation": "swiglu", "bias": False, "end_of_text": 0},
        ),
        (  # TinyLlama/TinyLlama-1.1B
            {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 22,
             "intermediate_size": 5632, "num_attention_heads": 32, "num_key_value_heads": 4, "rms_norm_eps": 1e-5,
             "vocab_size": 32000, "max_position_embeddings": 2048, "eos_token_id": 2},
            1_100_048_384, {"rope_theta": 10000.0, "tie_embeddings": False},
        ),
        (  # meta-llama/Llama-3.2-1B
            {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2048, "head_dim": 64,
             "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
             "rms_norm_eps": 1e-5, "vocab_size": 128256, "max_position_embeddings": 131072, "rope_theta": 500000.0,
             "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                              "original_max_position_embeddings": 8192, "rope_type": "llama3"},
             "tie_word_embeddings": True, "eos_token_id": 128001},
            1_235_814_400, {"rope_theta": 500000.0, "rope_scaling": RopeScaling(rope_type="llama3", factor=32.0,
                                                                              original_max_seq_len=8192)},
        ),
        (  # mistralai/Mistral-7B-v0.1
            {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_size": 4096, "vocab_size": 32000,
             "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
             "max_position_embeddings": 32768, "rms_norm_eps": 1e-5, "sliding_window": 4096, "eos_token_id": 2},
            7_241_732_096, {"layer_pattern": ("sliding",), "sliding_window": 4096, "max_seq_len": 32768},
        ),
        (  # Qwen/Qwen2.5-0.5B
            {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 896, "vocab_size": 151936,
             "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
             "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": True,
             "use_sliding_window": False, "sliding_window": 32768, "max_window_layers": 24, "eos_token_id": 151643},
            494_032_768, {"bias_parts": ("qkv",), "layer_pattern": ("full",), "rope_theta": 1e6},
        ),
        (  # Qwen/Qwen1.5-0.5B, whose last layers would slide if any did
            {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 1024, "vocab_size": 151936,
             "intermediate_size": 2816, "num_hidden_layers": 24, "num_attention_heads": 16, "num_key_value_heads": 16,
             "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": True,
             "use_sliding_window": False, "sliding_window": 32768, "max_window_layers": 21, "eos_token_id": 151643},
            463_987_712, {"layer_pattern": ("full",)},
        ),
        (  # Qwen/Qwen3-0.6B
            {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 1024, "vocab_size": 151936,
             "head_dim": 128, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
             "num_key_value_heads": 8, "max_position_embeddings": 40960, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
             "tie_word_embeddings": True, "use_sliding_window": False, "sliding_window": None, "eos_token_id": 151645},
            596_049_920, {"resolved_head_dim": 128, "qk_norm": True},
        ),
        (  # mistralai/Mixtral-8x7B
            {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_size": 4096, "sliding_window": None,
             "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
             "num_local_experts": 8, "num_experts_per_tok": 2, "rope_theta": 1e6, "rms_norm_eps": 1e-5,
             "vocab_size": 32000, "max_position_embeddings": 32768, "eos_token_id": [2, 5]},
            46_702_792_704, {"rope_theta": 1e6, "experts": 8, "end_of_text": 2},
        ),
        (  # openai-community/gpt2-xl
            {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_ctx": 1024, "n_embd": 1600, "n_head": 25,
             "n_layer": 48, "n_positions": 1024, "vocab_size": 50257, "eos_token_id": 50256},
            1_557_611_200, {"activation": "gelu_tanh", "dropout": 0.1, "intermediate_size": 6400, "bias": True},
        ),
        (  # EleutherAI/gpt-neo-125m
            {"architectures": ["GPTNeoForCausalLM"], "model_type": "gpt_neo", "attention_types": [[["global", "local"], 6]],
             "hidden_size": 768, "num_heads": 12, "num_layers": 12, "window_size": 256, "vocab_size": 50257},
            125_198_592, {"layer_pattern": ("full", "sliding") * 6, "sliding_window": 256},
        ),
        (  # openai-community/openai-gpt
            {"architectures": ["OpenAIGPTLMHeadModel"], "model_type": "openai-gpt", "afn": "gelu", "n_positions": 512},
            116_534_784, {"norm_position": "post", "activation": "gelu_tanh", "final_norm": False, "end_of_text": -1},
        ),
    ],
)  # fmt: skip
def test_published_settings(told: dict[str, Any], parameters: int, facts: dict[str, Any]) -> None:
    """As they stand on the models' pages, and how many parameters these are known to have."""
    config = read_model_config(told, "config.json")
    assert config.parameters() == parameters
    assert {name: getattr(config, name) for name in facts} == facts


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architectures": ["BertModel"], "model_type": "bert"}, "BertModel"),
        ({"architectures": ["Qwen3ForSequenceClassification"]}, "Qwen3ForSequenceClassification"),
        ({"rope_parameters": {"rope_type": "proportional", "rope_theta": 1e4}}, "rope_type = proportional"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 0.5}}, "factor"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5"),
        ({"head_dim": 32}, "self_attn"),
        ({"hidden_act": "gelu"}, "hidden_act = gelu"),
        ({"use_sliding_window": True, "layer_types": ["chunked_attention"]}, "layer_types = chunked_attention"),
        ({"layer_types": ["full_attention"]}, "layer_types of 1 layers, not 2"),
        ({"is_causal": False}, "is_causal = False"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 5e5}}}, "rope_parameters by type of layer"),
        ({"use_sliding_window": True, "sliding_window": 0}, "sliding_window = 0"),
        ({"num_attention_heads": 0, "head_dim": None}, "no model can have"),
        ({"hidden_size": "wide"}, "hidden_size is 'wide', not a whole number"),
        ({"rope_parameters": [1]}, "no model can have"),
        ({"max_position_embeddings": 10**12}, "max_position_embeddings is 1000000000000, and may be 0 to"),
        ({"max_position_embeddings": 2**31 - 1}, "context of 2,147,483,647 tokens, whose position tables"),
        ({"max_position_embeddings": -1}, "max_position_embeddings is -1"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
        ({"num_hidden_layers": 60_000, "layer_types": None}, "describes .* parameters"),
        ({"num_hidden_layers": True}, "num_hidden_layers is True, not a whole number"),
        ({"num_hidden_layers": 2.5}, "num_hidden_layers is 2.5, not a whole number"),
        ({"vocab_size": 10**12}, "vocab_size is 1000000000000"),
        ({"vocab_size": 2**31 - 1}, "describes .* parameters"),
        ({"intermediate_size": -4}, "intermediate_size is -4"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps is nan, not a finite number"),
        ({"rms_norm_eps": "1e-5"}, "rms_norm_eps is '1e-5', not a finite number"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings is 1, not true or false"),
        ({"head_dim": 10**12}, "head_dim is 1000000000000"),
        ({"sliding_window": "all"}, "sliding_window is 'all'"),
        ({"eos_token_id": "x"}, "no model can have"),
        ({"num_attention_heads": 7, "head_dim": None}, "not a multiple"),
        ({"num_hidden_layers": 3, "layer_types": None}, "model.layers.2"),
        ({"num_hidden_layers": 1, "layer_types": None}, "model.layers.1"),
    ],
)
def test_what_is_not_known_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    """DataError (3) that says what, never other logits."""
    folder = exported(tmp_path / "model", build("modern"))
    told = json.loads((folder / "config.json").read_text()) | change
    del told["gptctl"]
    (folder / "config.json").write_text(json.dumps(told))
    (folder / "manifest.json").unlink()
    with pytest.raises(DataError, match=words) as caught:
        load_model(folder)
    if "BertModel" in words:
        assert caught.value.hint
        assert all(architecture in caught.value.hint for _, _, architecture in CASES.values())


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"model_type": "mistral", "sliding_window": 0}, "sliding_window = 0"),
        ({"model_type": "mistral", "layer_types": ["full_attention"] * 32}, "layer_types"),
        ({"model_type": "gemma3_text", "attn_logit_softcapping": 5.0}, "attn_logit_softcapping = 5.0"),
        ({"model_type": "gpt2", "n_layer": 12, "num_hidden_layers": 2}, "num_hidden_layers = 2 beside n_layer = 12"),
        ({"model_type": "gpt_neo", "num_layers": 4}, "attention_types of 24 layers, not 4"),
        ({"model_type": "gpt_neo", "attention_layers": ["local"] * 24}, "attention_layers that are not those"),
        ({"model_type": "smollm3", "no_rope_layers": [1, 0]}, "no_rope_layers of 2 layers, not 36"),
        ({"model_type": "mixtral", "num_experts": 4, "num_local_experts": 8}, "num_experts = 4 beside"),
    ],
)
def test_settings_of_other_classes_that_are_refused(told: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_model_config(told, "config.json")


def test_other_names_of_keys() -> None:
    """As in the attribute_map of transformers."""
    config = read_model_config({"model_type": "gpt2", "num_hidden_layers": 2, "n_head": 12}, "config.json")
    assert (config.layers, config.heads) == (2, 12)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layers": True}, "layers is True"),
        ({"layers": "2"}, "layers is '2'"),
        ({"layers": 10**9}, "layers is 1000000000"),
        ({"layers": 10**4}, "parameters"),
        ({"max_seq_len": 10**12}, "max_seq_len is 1000000000000"),
        ({"max_seq_len": 2**31 - 1}, "position tables"),
        ({"vocab_size": -1}, "vocab_size is -1"),
        ({"norm_eps": float("inf")}, "norm_eps is inf"),
    ],
)
def test_wrong_numbers_in_our_own_keys(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    folder = exported(tmp_path / "model", build("modern"))
    told = json.loads((folder / "config.json").read_text())
    with pytest.raises(DataError, match=words):
        check_size(read_model_config({"gptctl": told["gptctl"] | change}, "config.json"), open_weights(folder), folder)


@pytest.mark.parametrize("file", ["..", ".", "", "a/b.safetensors", "/etc/passwd", "a\0b", 7, None])
def test_an_index_of_files_outside_the_folder(tmp_path: Path, file: object) -> None:
    folder = exported(tmp_path / "model", build("modern"))
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": file}}))
    (folder / "manifest.json").unlink()
    with pytest.raises(DataError, match="lists no files of this folder"):
        load_model(folder)
