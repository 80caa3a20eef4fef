"""Whole models against transformers' own code with the same weights: another writing of the same papers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gptctl.model.config import ModelConfig
from gptctl.model.gpt import GPT
from gptctl.model.rope import rope_tables
from tests.model.test_gpt import make, some_tokens

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("theta", [10_000.0, 500_000.0])
def test_rotary_tables_are_equal_at_long_positions(theta: float) -> None:
    """Bit for bit, up to position 32,767 and at the last ones before 1,000,000."""
    cosines, sines = rope_tables(ModelConfig(hidden_size=32, heads=2, positions="rope", rope_theta=theta), 1_000_000)
    llama = transformers.LlamaConfig(
        hidden_size=32, num_attention_heads=2, rope_parameters={"rope_theta": theta, "rope_type": "default"}
    )
    theirs = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(llama)
    for positions in (torch.arange(32_768), torch.arange(999_000, 1_000_000)):
        cos, sin = theirs(torch.zeros(1), positions[None])
        assert torch.equal(cosines[positions], cos[0, :, :8])
        assert torch.equal(sines[positions], sin[0, :, :8])


def outcome(model: GPT, theirs: Any) -> list[tuple[Tensor, Tensor]]:
    """Run both on 40 tokens; pair up logits, and the gradients of the mean loss at the embedding."""
    tokens = some_tokens(model, 2, 41)
    loss = model(tokens[:, :-1], targets=tokens[:, 1:])
    (mine,) = torch.autograd.grad(loss.cross_entropy / loss.targets, [model.embedding.weight])
    logits = theirs(tokens[:, :-1]).logits
    mean = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    (other,) = torch.autograd.grad(mean, [theirs.get_input_embeddings().weight])
    return [(model(tokens[:, :-1]), logits), (mine, other)]


def mixtral(state: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Rename a mixture's weights to Mixtral's, whose gate and up matrices lie one below the other."""
    names = {
        "attention.query": "self_attn.q_proj",
        "attention.key": "self_attn.k_proj",
        "attention.value": "self_attn.v_proj",
        "attention.output": "self_attn.o_proj",
        "feed_forward.router": "mlp.gate",
        "attention_norm": "input_layernorm",
        "feed_forward_norm": "post_attention_layernorm",
    }
    found = {
        "model.embed_tokens.weight": state["embedding.weight"],
        "lm_head.weight": state["embedding.weight"],
        "model.norm.weight": state["final_norm.weight"],
    }
    for layer in range(layers):
        mine, other = f"blocks.{layer}.", f"model.layers.{layer}."
        found |= {f"{other}{theirs}.weight": state[f"{mine}{name}.weight"] for name, theirs in names.items()}
        gate, up, down = (state[f"{mine}feed_forward.experts.{name}"] for name in ("gate", "up", "down"))
        found[f"{other}mlp.experts.gate_up_proj"] = torch.cat((gate, up), dim=1)
        found[f"{other}mlp.experts.down_proj"] = down
    return found


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_a_mixture_is_mixtral(kv_heads: int) -> None:
    """Logits and gradients of MixtralForCausalLM, with our weights under its names."""
    model = make("test-moe", kv_heads=kv_heads)
    config = model.config
    theirs = transformers.MixtralForCausalLM(
        transformers.MixtralConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.resolved_kv_heads,
            num_local_experts=config.experts,
            num_experts_per_tok=config.experts_per_token,
            max_position_embeddings=config.max_seq_len,
            rms_norm_eps=config.norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            tie_word_embeddings=True,
        )
    ).eval()
    theirs.load_state_dict(mixtral(model.state_dict(), config.layers))
    for one, other in outcome(model, theirs):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


def gpt_neo(state: dict[str, Tensor], layers: int, head_dim: int) -> dict[str, Tensor]:
    """Rename the weights of a GPT-3 to those of GPT-Neo, which does not divide scores by sqrt(D): its queries are that much smaller."""
    names = {
        "attention.query": "attn.attention.q_proj",
        "attention.key": "attn.attention.k_proj",
        "attention.value": "attn.attention.v_proj",
        "attention.output": "attn.attention.out_proj",
        "feed_forward.up": "mlp.c_fc",
        "feed_forward.down": "mlp.c_proj",
        "attention_norm": "ln_1",
        "feed_forward_norm": "ln_2",
    }
    found = {
        "transformer.wte.weight": state["embedding.weight"],
        "lm_head.weight": state["embedding.weight"],
        "transformer.wpe.weight": state["positions.weight"],
        "transformer.ln_f.weight": state["final_norm.weight"],
        "transformer.ln_f.bias": state["final_norm.bias"],
    }
    for layer in range(layers):
        for name, theirs in names.items():
            for kind in ("weight", "bias"):
                found[f"transformer.h.{layer}.{theirs}.{kind}"] = state[f"blocks.{layer}.{name}.{kind}"]
        prefix = f"transformer.h.{layer}.attn.attention."
        found[prefix + "q_proj.weight"] = found[prefix + "q_proj.weight"] * head_dim**-0.5
        for part in ("q", "k", "v"):  # it has none, and the model's are zero
            del found[f"{prefix}{part}_proj.bias"]
    return found


def test_bands_are_gpt_neos() -> None:
    """Logits and gradients of GPTNeoForCausalLM, whose layers alternate between all and a window."""
    model = make("test-gpt3")
    with torch.no_grad():
        for block in model.blocks:
            for part in ("query", "key", "value"):
                getattr(block.attention, part).bias.zero_()
    config = model.config
    theirs = transformers.GPTNeoForCausalLM(
        transformers.GPTNeoConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_layers=config.layers,
            num_heads=config.heads,
            max_position_embeddings=config.max_seq_len,
            attention_types=[[["global", "local"], 1]],
            window_size=config.sliding_window,
            activation_function="gelu_new",
            bos_token_id=0,
            eos_token_id=0,
        )
    ).eval()
    theirs.load_state_dict(gpt_neo(model.state_dict(), config.layers, config.resolved_head_dim))
    for one, other in outcome(model, theirs):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)
