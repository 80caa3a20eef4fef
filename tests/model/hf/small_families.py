"""Small random models of transformers' classes, as a folder that its save_pretrained writes.

The weights are lively, norms and biases too, so that a wrong computation changes logits by whole units.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from tests.evals.small_model import END_ID, tokenizer_json

VOCABULARY = END_ID + 1
CONTEXT = 96
WINDOW = 12
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": CONTEXT,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 48,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 48}
LONGROPE = {
    "rope_type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5], "long_factor": [1.0, 1.5, 2, 3, 4, 5],
}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
MIXTRAL = {"num_local_experts": 4, "num_experts_per_tok": 2}
# What users have: the name of the case, model_type, and settings that differ from SIZES.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama-biases": ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "llama-head-dim": ("llama", {"head_dim": 16, "hidden_act": "gelu_pytorch_tanh", "rope_theta": 5e5}),
    "llama-llama3": ("llama", {"rope_scaling": LLAMA3, "rope_theta": 5e5}),
    "llama-linear": ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
    "llama-dynamic": ("llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}),
    "llama-yarn": ("llama", {"rope_scaling": YARN}),
    "llama-yarn-told": (
        "llama",
        {"rope_scaling": YARN | {"beta_fast": 20, "beta_slow": 2, "mscale": 0.7, "mscale_all_dim": 1.2, "truncate": False}},
    ),
    "mistral": ("mistral", {"sliding_window": WINDOW}),
    "mistral-full": ("mistral", {"sliding_window": None, "head_dim": 16}),
    "mixtral": ("mixtral", MIXTRAL | {"sliding_window": WINDOW}),
    "mixtral-full": ("mixtral", MIXTRAL | {"sliding_window": None}),
    "qwen2": ("qwen2", {}),
    "qwen2-sliding": ("qwen2", {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 2}),
    "qwen2-yarn": ("qwen2", {"tie_word_embeddings": True, "rope_scaling": YARN}),
    "qwen3": ("qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
    "qwen3-sliding": ("qwen3", {"head_dim": 12, "use_sliding_window": True, "sliding_window": WINDOW,
                                "layer_types": ["full_attention", "sliding_attention"] * 2, "attention_bias": True}),
    "qwen3-moe": ("qwen3_moe", EXPERTS | {"head_dim": 16}),
    "qwen3-moe-full": ("qwen3_moe", EXPERTS | {"norm_topk_prob": True}),
    "qwen3-moe-norm": ("qwen3_moe", EXPERTS | {"norm_topk_prob": True, "attention_bias": True, "use_sliding_window": True,
                                               "sliding_window": WINDOW}),
    "qwen2-moe": ("qwen2_moe", EXPERTS | {"shared_expert_intermediate_size": 24}),
    "qwen2-moe-norm": ("qwen2_moe", EXPERTS | {"shared_expert_intermediate_size": 24, "norm_topk_prob": True,
                                               "use_sliding_window": True, "sliding_window": WINDOW, "qkv_bias": False}),
    "smollm3": ("smollm3", {}),
    "smollm3-sliding": ("smollm3", {"use_sliding_window": True, "sliding_window": WINDOW, "no_rope_layers": [1, 0, 0, 1],
                                    "tie_word_embeddings": False, "rope_scaling": YARN}),
    "gemma": ("gemma", {"head_dim": 16, "num_key_value_heads": 1}),
    "gemma2": ("gemma2", {"head_dim": 16, "query_pre_attn_scalar": 24, "sliding_window": WINDOW,
                          "attn_logit_softcapping": 5.0}),
    "gemma2-uncapped": ("gemma2", {"head_dim": 12, "query_pre_attn_scalar": 12, "sliding_window": WINDOW,
                                   "final_logit_softcapping": None, "attn_logit_softcapping": None}),
    "gemma3": ("gemma3_text", {"head_dim": 16, "query_pre_attn_scalar": 24, "sliding_window": WINDOW,
                               "layer_types": ["sliding_attention", "full_attention"] * 2,
                               "rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
    "gemma2-plain": ("gemma2", {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": WINDOW}),
    "gemma3-plain": ("gemma3_text", {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": WINDOW,
                                     "num_hidden_layers": 6}),
    "phi3": ("phi3", {"sliding_window": WINDOW}),
    "phi3-partial": ("phi3", {"partial_rotary_factor": 0.5, "num_key_value_heads": 4, "tie_word_embeddings": True}),
    "phi3-longrope": ("phi3", {"original_max_position_embeddings": 48, "rope_scaling": LONGROPE}),
    "olmo": ("olmo", {"clip_qkv": 0.6}),
    "olmo2": ("olmo2", {"attention_bias": True}),
    "olmo2-plain": ("olmo2", {}),
    "olmo3": ("olmo3", {"sliding_window": WINDOW, "rope_scaling": YARN}),
    "olmo3-two-bases": ("olmo3", {"sliding_window": WINDOW, "rope_scaling": YARN | {"rope_theta": 1e4}}),
    "olmo3-plain": ("olmo3", {"sliding_window": WINDOW}),
    "arcee": ("arcee", {}),
    "granite": ("granite", {"embedding_multiplier": 6.0, "logits_scaling": 0.5, "residual_multiplier": 0.22,
                            "attention_multiplier": 0.1}),
    "starcoder2": ("starcoder2", {"sliding_window": WINDOW}),
    "starcoder2-plain": ("starcoder2", {"use_bias": False, "sliding_window": None}),
    "starcoder2-full": ("starcoder2", {"sliding_window": None}),
    "stablelm": ("stablelm", {"use_qkv_bias": True, "head_dim": None, "partial_rotary_factor": 0.5}),
    "stablelm-parallel": ("stablelm", {"use_parallel_residual": True, "partial_rotary_factor": 0.5}),
    "gpt-neox": ("gpt_neox", {"rotary_pct": 0.5, "rotary_emb_base": 2e4}),
    "gpt-neox-sequential": ("gpt_neox", {"rotary_pct": 1.0, "use_parallel_residual": False, "attention_bias": False}),
    "falcon": ("falcon", {}),
    "falcon-new": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2, "bias": True}),
    "falcon-old": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1,
                             "activation": "gelu_new"}),
    "falcon-two-norms": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon-sequential": ("falcon", {"multi_query": False, "parallel_attn": False, "tie_word_embeddings": False}),
    "opt": ("opt", {"ffn_dim": 64}),
    "opt-plain": ("opt", {"ffn_dim": 64, "enable_bias": False, "activation_function": "gelu"}),
}  # fmt: skip


def make(case: str) -> Any:
    """Return the model of a case, of transformers' class, on which attention is computed plainly."""
    import transformers

    model_type, changes = CASES[case]
    settings = SIZES | {"bos_token_id": END_ID, "eos_token_id": END_ID, "pad_token_id": END_ID} | deepcopy(changes)
    config = transformers.AutoConfig.for_model(model_type, **settings)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim < 2:
                parameter.add_(0.2 * noise)
            else:
                parameter.copy_(noise * (0.5 if "emb" in name else 0.15))
    return model


def save(case: str, folder: Path) -> Any:
    """Write the folder of a case, and return the model that transformers reads from it."""
    import transformers

    make(case).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer_json())
    return transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
