"""GGUF files: transformers reads them back to the same logits; what GGUF cannot store is refused."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gptctl.core.errors import UsageError
from gptctl.model.folder import load_model
from gptctl.model.gguf import writer
from gptctl.model.gpt import GPT
from gptctl.stages.export import Export, run
from gptctl.text.tokenization.training import train
from gptctl.text.tokenizer import Tokenizer
from tests.conftest import documents
from tests.evals.small_model import tokenizer_json
from tests.model.hf.foreign_folders import METASPACE, make_tokenizer
from tests.model.hf.small_families import LONGROPE, WINDOW, save
from tests.model.test_gpt import logits_of, make, some_tokens

gguf = pytest.importorskip("gguf")
transformers = pytest.importorskip("transformers")
# transformers reads neither these sizes from a file, nor GPT-2's context, where it takes 1024.
SIZES = {"qwen3": {"head_dim": 16}, "qwen3moe": {"head_dim": 16, "moe_intermediate_size": 96}}
CASES: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "gpt2": ("test-gpt2", {"max_seq_len": 1024}, "GPT2LMHeadModel", "gpt2"),
    "gpt2-untied": (
        "test-gpt2",
        {"max_seq_len": 1024, "tie_embeddings": False, "bias": False},
        "GPT2LMHeadModel",
        "gpt2",
    ),
    "llama": ("test-modern", {"qk_norm": False}, "LlamaForCausalLM", "o200k"),
    "llama-untied": ("test-modern", {"qk_norm": False, "tie_embeddings": False}, "LlamaForCausalLM", "modern"),
    "qwen3": ("test-modern", {}, "Qwen3ForCausalLM", "modern"),
    "qwen3moe": ("test-moe", {"qk_norm": True, "kv_heads": 2}, "Qwen3MoeForCausalLM", "modern"),
}


@cache
def tokenizer(algorithm: Any, rules: Any = "gpt2") -> str:
    return train(
        [row["text"].encode("ascii", "ignore").decode() for row in documents(30)], algorithm, 400, split_pattern=rules
    )


def build(case: str) -> tuple[GPT, str]:
    name, changes, _, rules = CASES[case]
    text = tokenizer("bpe", rules)
    text_tokenizer = Tokenizer.from_json(text)
    return make(
        name, vocab_size=text_tokenizer.vocab_size + 3, end_of_text=text_tokenizer.end_of_text_id, **changes
    ), text


def opened(path: Path, case: str) -> Any:
    found = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, **SIZES.get(case, {})
    )
    assert type(found).__name__ == CASES[case][2]
    return found.eval()


def loss_of(logits: Tensor, tokens: Tensor) -> float:
    return float(F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["float32", "float16", "q8_0"])
def test_transformers_reads_the_same(tmp_path: Path, case: str, kind: writer.WeightType) -> None:
    """float32: logits within 1e-4; float16: a loss within 0.1 %; eight bits: within 2 %."""
    model, text = build(case)
    writer.write_gguf(tmp_path / "model.gguf", model, text, {}, kind)
    theirs = opened(tmp_path / "model.gguf", case)
    tokens = some_tokens(model, 2, 60)
    mine, other = logits_of(model, tokens), logits_of(theirs, tokens)
    if kind == "float32":
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=0)
    allowed = {"float32": 1e-6, "float16": 1e-3, "q8_0": 0.02}[kind]
    assert abs(loss_of(other, tokens) / loss_of(mine, tokens) - 1) <= allowed


@pytest.mark.parametrize("rules", ["gpt2", "modern", "o200k"])
def test_the_tokenizer(tmp_path: Path, rules: str) -> None:
    """transformers' tokenizer of the file gives our ids, and knows what begins and ends a text."""
    text = tokenizer("bpe", rules)
    text_tokenizer = Tokenizer.from_json(text)
    model = make("test-modern", vocab_size=text_tokenizer.vocab_size)
    writer.write_gguf(tmp_path / "model.gguf", model, text, {"chat_template": "{{ messages }}", "stop_ids": [5, 9]})
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    sample = "Hello  world's 12345 DON'T\n\n\tthe (brown) fox; x = 1\r\n end  "
    assert theirs(sample, add_special_tokens=False)["input_ids"] == text_tokenizer.encode(sample)
    found = fields(tmp_path / "model.gguf")
    assert found["tokenizer.ggml.pre"] == {"gpt2": "gpt-2", "modern": "llama-bpe", "o200k": "gpt-4o"}[rules]
    assert (found["tokenizer.ggml.bos_token_id"], found["tokenizer.ggml.eos_token_id"]) == (
        text_tokenizer.end_of_text_id,
        5,
    )
    assert found["tokenizer.chat_template"] == "{{ messages }}"


def test_the_tokenizer_of_qwen(tmp_path: Path) -> None:
    """Single digits are llama.cpp's rules qwen2, and NFC is no reason to refuse."""
    definition = json.loads(tokenizer("bpe", "modern").replace("{1,3}", ""))
    definition["normalizer"] = {"type": "NFC"}
    text = json.dumps(definition)
    writer.write_gguf(tmp_path / "model.gguf", make("test-modern"), text, {})
    assert fields(tmp_path / "model.gguf")["tokenizer.ggml.pre"] == "qwen2"


def test_the_tokenizer_of_starcoder(tmp_path: Path) -> None:
    """Names are found by what a tokenizer does, not by how it is written: digits are cut out by a step of their own."""
    definition = json.loads(tokenizer("bpe"))
    digits = {"type": "Digits", "individual_digits": True}
    definition["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, definition["pre_tokenizer"]]}
    writer.write_gguf(tmp_path / "model.gguf", make("test-gpt2"), json.dumps(definition), {})
    assert fields(tmp_path / "model.gguf")["tokenizer.ggml.pre"] == "starcoder"


@pytest.mark.parametrize("family", METASPACE)
def test_the_tokenizers_of_sentencepiece(tmp_path: Path, family: str) -> None:
    """llama.cpp merges by scores, which go down with the order of the merges. transformers reads the same tokens."""
    text = make_tokenizer(family).to_str()
    model = make("test-modern", vocab_size=Tokenizer.from_json(text).vocab_size)
    writer.write_gguf(tmp_path / "model.gguf", model, text, {})
    found, types = fields(tmp_path / "model.gguf"), gguf.TokenType
    tokens, scores = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.scores"]
    assert found["tokenizer.ggml.model"] == "llama"
    assert found["tokenizer.ggml.add_space_prefix"] == (family != "gemma")
    assert len(tokens) == len(scores) == len(found["tokenizer.ggml.token_type"])
    kinds = dict(zip(tokens, found["tokenizer.ggml.token_type"], strict=True))
    assert (kinds["<0x0A>"], kinds["<unk>"], kinds["a"]) == (types.BYTE, types.UNKNOWN, types.NORMAL)
    made = ["".join(pair) for pair in json.loads(text)["model"]["merges"]]
    placed = [scores[tokens.index(token)] for token in dict.fromkeys(made)]
    assert placed == sorted(placed, reverse=True) and placed[-1] > scores[tokens.index("<0x0A>")]


def test_merges_that_llama_cpp_would_not_follow(tmp_path: Path) -> None:
    """It joins any neighbours whose joined token exists, also where the tokenizer has no such merge."""
    definition = json.loads(make_tokenizer("llama-2").to_str())
    vocabulary = definition["model"]["vocab"]
    assert "He" not in vocabulary
    vocabulary["He"] = len(vocabulary)
    model = make("test-modern", vocab_size=len(vocabulary))
    with pytest.raises(UsageError, match="other tokens"):
        writer.write_gguf(tmp_path / "model.gguf", model, json.dumps(definition), {})


def fields(path: Path) -> dict[str, Any]:
    """Read a file's metadata."""
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


def test_characters_are_spelled_as_bytes(tmp_path: Path) -> None:
    """A vocabulary of characters, each of one byte, has GPT-2's spelling of bytes, and no merges to speak of."""
    text = tokenizer("chars")
    text_tokenizer = Tokenizer.from_json(text)
    writer.write_gguf(tmp_path / "model.gguf", make("test-gpt2", vocab_size=text_tokenizer.vocab_size + 1), text, {})
    tokens = fields(tmp_path / "model.gguf")["tokenizer.ggml.tokens"]
    assert tokens[text_tokenizer.encode(" ")[0]] == "Ġ"
    assert tokens[text_tokenizer.encode("a")[0]] == "a"
    assert tokens[text_tokenizer.vocab_size] == f"[unused {text_tokenizer.vocab_size}]"
    types = fields(tmp_path / "model.gguf")["tokenizer.ggml.token_type"]
    assert [types[0], types[1], types[-1]] == [gguf.TokenType.CONTROL, gguf.TokenType.NORMAL, gguf.TokenType.UNUSED]


def test_a_mixture_without_qk_norm_is_of_llama(tmp_path: Path) -> None:
    """As llama.cpp has Mixtral: experts stacked, the router in float32, and how many there are."""
    text = tokenizer("bpe", "modern")
    model = make("test-moe", vocab_size=Tokenizer.from_json(text).vocab_size)
    writer.write_gguf(tmp_path / "model.gguf", model, text, {}, "q8_0")
    found = fields(tmp_path / "model.gguf")
    assert (found["llama.expert_count"], found["llama.expert_used_count"]) == (4, 2)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    gates = tensors["blk.1.ffn_gate_exps.weight"]
    assert gates.tensor_type == gguf.GGMLQuantizationType.Q8_0
    wanted = model.state_dict()["blocks.1.feed_forward.experts.gate"]
    read = torch.from_numpy(gguf.dequantize(gates.data, gates.tensor_type))
    torch.testing.assert_close(read, wanted, atol=float(wanted.abs().max()) / 127, rtol=0)
    router = tensors["blk.1.ffn_gate_inp.weight"]
    assert router.tensor_type == gguf.GGMLQuantizationType.F32
    assert torch.equal(torch.from_numpy(router.data.copy()), model.state_dict()["blocks.1.feed_forward.router.weight"])


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("test-vaswani", {}, "no architecture for OpenAIGPTLMHeadModel"),
        ("test-gpt3", {"bias": False}, "no architecture for GPTNeoForCausalLM"),
        ("char-cpu", {}, "gpt2 has no activation = gelu"),
        ("char-modern", {}, "qwen3 has no activation = relu2"),
        ("test-modern", {"bias": True}, "without biases"),
        ("test-modern", {"logit_softcap": 15.0}, "logit_softcap"),
    ],
)
def test_models_that_it_can_not_hold(tmp_path: Path, name: str, changes: dict[str, Any], words: str) -> None:
    """They are refused before anything is written."""
    with pytest.raises(UsageError, match=words):
        writer.write_gguf(tmp_path / "model.gguf", make(name, **changes), tokenizer("bpe"), {})
    assert not (tmp_path / "model.gguf").exists()


def test_tokenizers_that_it_can_not_hold(tmp_path: Path) -> None:
    """Words, characters of several bytes, rules for cutting text without a name, more tokens than rows."""
    wide = train(["añb"], "chars", 0)
    unnamed = tokenizer("bpe", "modern").replace("{1,3}", "{1,4}")
    refused = ((tokenizer("words"), "byte-level"), (wide, "several bytes"), (unnamed, "no name for the way"))
    for text, words in refused:
        with pytest.raises(UsageError, match=words):
            writer.write_gguf(tmp_path / "model.gguf", make("test-gpt2"), text, {})
    with pytest.raises(UsageError, match="more tokens"):
        writer.write_gguf(tmp_path / "model.gguf", make("test-gpt2", vocab_size=100), tokenizer("bpe"), {})


def changed(case: str, folder: Path) -> tuple[dict[str, Tensor], GPT]:
    """Return the tensors that GGUF stores of a small model of transformers, and our model of it."""
    save(case, folder)
    found = load_model(folder)
    writer.write_gguf(folder / "model.gguf", found.model, tokenizer_json(), {})
    stored = gguf.GGUFReader(folder / "model.gguf").tensors
    return {tensor.name: torch.from_numpy(tensor.data.copy()) for tensor in stored}, found.model


@pytest.mark.parametrize("case", ["gpt-neox", "falcon", "falcon-two-norms", "falcon-old"])
def test_queries_keys_and_values_follow_each_other(tmp_path: Path, case: str) -> None:
    """As llama.cpp reads them; GPT-NeoX and Falcon have those of each head together."""
    tensors, model = changed(case, tmp_path)
    parts = [model.state_dict()[f"blocks.1.attention.{part}.weight"] for part in ("query", "key", "value")]
    assert torch.equal(tensors["blk.1.attn_qkv.weight"], torch.cat(parts))


def test_layers_whose_windows_slide(tmp_path: Path) -> None:
    """All but every fourth of OLMo 3 do, with the frequencies of the others; llama.cpp has no second base."""
    changed("olmo3", tmp_path)
    found = fields(tmp_path / "model.gguf")
    assert (found["olmo2.attention.sliding_window"], found["olmo2.rope.scaling.type"]) == (WINDOW, "yarn")
    with pytest.raises(UsageError, match="sliding_rope_theta"):
        changed("olmo3-two-bases", tmp_path / "two")


def test_an_approximation_is_said(tmp_path: Path) -> None:
    """What llama.cpp computes by the tanh form of GELU."""
    said: list[str] = []
    for case in ("gpt-neox", "falcon-old"):  # the second has this form
        save(case, tmp_path / case)
        model = load_model(tmp_path / case).model
        writer.write_gguf(tmp_path / f"{case}.gguf", model, tokenizer_json(), {}, warn=said.append)
    assert len(said) == 1 and "GELU" in said[0]


def test_frequencies_of_longrope(tmp_path: Path) -> None:
    """llama.cpp divides by one of two tensors, and scales by a factor, that of Phi-3 (Ding et al. 2024)."""
    said: list[str] = []
    save("phi3-longrope", tmp_path)
    model = load_model(tmp_path).model
    writer.write_gguf(tmp_path / "model.gguf", model, tokenizer_json(), {}, warn=said.append)
    stored = {tensor.name: tensor.data.tolist() for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    assert stored["rope_factors_long.weight"] == LONGROPE["long_factor"]
    assert stored["rope_factors_short.weight"] == pytest.approx(LONGROPE["short_factor"])
    found = fields(tmp_path / "model.gguf")
    assert (found["phi3.context_length"], found["phi3.rope.scaling.original_context_length"]) == (96, 48)
    assert found["phi3.rope.scaling.attn_factor"] == pytest.approx(math.sqrt(1 + math.log(96 / 48) / math.log(48)))
    assert len(said) == 1 and "--ctx-size 48" in said[0]


@pytest.mark.parametrize("case", ["phi3", "mistral", "mixtral", "qwen2-sliding", "starcoder2"])
def test_the_context_is_one_window(tmp_path: Path, case: str) -> None:
    """If llama.cpp has no sliding windows for an architecture, since it computes the same only within one."""
    said: list[str] = []
    save(case, tmp_path)
    writer.write_gguf(tmp_path / "model.gguf", load_model(tmp_path).model, tokenizer_json(), {}, warn=said.append)
    found = fields(tmp_path / "model.gguf")
    name = found["general.architecture"]
    assert (found[f"{name}.context_length"], f"{name}.attention.sliding_window" in found) == (WINDOW, False)
    assert any(f"a context of {WINDOW} tokens" in note for note in said)


@pytest.mark.parametrize("case", ["opt", "opt-plain"])
def test_classes_that_llama_cpp_does_not_know(tmp_path: Path, case: str) -> None:
    save(case, tmp_path)
    with pytest.raises(UsageError, match="no architecture for OPTForCausalLM"):
        run(Export(model=str(tmp_path), out=str(tmp_path / "out"), format="gguf"))
    assert not (tmp_path / "out").exists()
