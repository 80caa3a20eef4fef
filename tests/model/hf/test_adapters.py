"""Low-rank updates on disk: the package peft opens ours on the exported model, and we open its."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gptctl.core.errors import DataError
from gptctl.model.classifier import Classifier
from gptctl.model.files import tensor_files
from gptctl.model.files.locate import find_model
from gptctl.model.folder import load_model
from gptctl.model.gpt import GPT
from gptctl.model.hf.adapter_load import load_adapter_into
from gptctl.model.hf.adapter_save import save_adapter
from gptctl.model.lora import apply_lora, lora_layers, merge_lora
from gptctl.model.lora_config import LoraConfig
from gptctl.model.save import save_model
from tests.evals.small_model import tokenizer_json
from tests.model.test_gpt import logits_of, make, some_tokens

theirs = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "vaswani": ("test-vaswani", {}),
    "gpt1": ("test-gpt1", {}),
    "gpt2": ("test-gpt2", {}),
    "gpt2-untied": ("test-gpt2", {"tie_embeddings": False}),
    "gpt3-sliding": ("test-gpt3", {"bias": False}),
    "qwen3": ("test-modern", {}),
    "llama": ("test-modern", {"qk_norm": False}),
    "char-modern": ("char-modern", {"layers": 2, "hidden_size": 64, "intermediate_size": 256}),
    "arcee": ("char-modern", {"layers": 2, "hidden_size": 64, "intermediate_size": 256, "qk_norm": False}),
    "moe": ("test-moe", {}),
}
EVERYWHERE, SOME = ("blocks.*",), ("*.query", "*.value", "blocks.0.*.down")


def build(folder: Path, case: str, lora: LoraConfig, tables: bool = False) -> GPT:
    """Write a base into a folder, adapt it, and move every number that training would; give the adapted model."""
    name, changes = CASES[case]
    model = make(name, **changes)
    save_model(folder, model, tokenizer_json(), {})
    apply_lora(model, lora, seed=0)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for _, layer in lora_layers(model):
            layer.lora_b.add_(0.3 * torch.randn(layer.lora_b.shape, generator=generator))
            if layer.magnitude is not None:
                layer.magnitude.mul_(1 + 0.3 * torch.rand(layer.magnitude.shape, generator=generator))
        for table in (model.embedding, model.head) if tables else ():
            if table is not None:
                table.weight.requires_grad_(True)
                table.weight.add_(0.1)
    return model


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize(("targets", "tables"), [(EVERYWHERE, False), (EVERYWHERE, True), (SOME, False)])
def test_peft_computes_the_same(tmp_path: Path, case: str, dora: bool, targets: tuple[str, ...], tables: bool) -> None:
    """On the exported base, applied and merged; and so do we, when MODEL is the adapter's folder."""
    model = build(tmp_path / "base", case, LoraConfig(rank=3, alpha=5, dora=dora, targets=targets), tables)
    save_adapter(tmp_path / "adapter", model, str(tmp_path / "base"))
    tokens = some_tokens(model, 2, 20)
    wanted = logits_of(model, tokens)
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a tied table is part of it, and so is its twin
        applied = theirs.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
        close(logits_of(applied, tokens), wanted)
        close(logits_of(applied.merge_and_unload(), tokens), wanted)
    loaded, config, text, _ = load_model(find_model(str(tmp_path / "adapter")))
    close(logits_of(loaded, tokens), wanted)
    assert (config, text) == (model.config, tokenizer_json())
    plain = load_model(tmp_path / "base")[0]
    load_adapter_into(tmp_path / "adapter", plain)
    close(logits_of(plain, tokens), wanted)
    merge_lora(model)
    close(logits_of(model, tokens), wanted)


def test_query_key_and_value_of_gpt2_are_one_update(tmp_path: Path) -> None:
    """Three of rank 3 make one of rank 9: zeros but on the diagonal, and the same scale."""
    model = build(tmp_path / "base", "gpt2", LoraConfig(rank=3, alpha=6))
    save_adapter(tmp_path / "adapter", model, str(tmp_path / "base"))
    stored = tensor_files.read_tensors(tmp_path / "adapter" / "adapter_model.safetensors")
    up = stored["base_model.model.transformer.h.1.attn.c_attn.lora_B.weight"]
    assert up.shape == (192, 9)
    layers = dict(lora_layers(model))
    assert torch.equal(up[64:128, 3:6], layers["blocks.1.attention.key"].lora_b)
    assert not up[64:128, :3].any()
    assert not up[64:128, 6:].any()
    told = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert told["fan_in_fan_out"]
    assert told["rank_pattern"]["transformer.h.1.attn.c_attn"] == 9
    assert told["alpha_pattern"]["transformer.h.1.attn.c_attn"] == 18
    assert (told["r"], told["lora_alpha"]) == (3, 6)
    assert Path(told["base_model_name_or_path"]) == (tmp_path / "base").resolve()


@pytest.mark.parametrize("case", ["gpt2", "qwen3"])
@pytest.mark.parametrize("settings", [{}, {"use_dora": True}, {"use_rslora": True}, {"patterns": True}])
def test_what_peft_trained_opens_here(tmp_path: Path, case: str, settings: dict[str, Any]) -> None:
    """An update of the exported model that was made with the package, with one A for all of c_attn."""
    model = make(*CASES[case][:1], **CASES[case][1])
    save_model(tmp_path / "base", model, tokenizer_json(), {})
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    targets = ["c_attn", "mlp.c_proj"] if case == "gpt2" else ["q_proj", "down_proj"]
    if settings.get("patterns"):
        settings = {"rank_pattern": {targets[0]: 2}, "alpha_pattern": {targets[0]: 7}}
    config = theirs.LoraConfig(r=4, lora_alpha=10, target_modules=targets, fan_in_fan_out=case == "gpt2", **settings)
    torch.manual_seed(0)
    made = theirs.get_peft_model(base, config).eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "lora_" in name:
                parameter.add_(0.1 * torch.rand_like(parameter))
    made.save_pretrained(tmp_path / "adapter")
    tokens = some_tokens(model, 2, 20)
    close(logits_of(load_model(find_model(str(tmp_path / "adapter")))[0], tokens), logits_of(made, tokens))


@pytest.mark.parametrize("case", ["vaswani", "gpt2", "qwen3"])
def test_a_vocabulary_that_grew(tmp_path: Path, case: str) -> None:
    """New tokens come with the tables that hold them, and with a tokenizer that knows them."""
    name, changes = CASES[case]
    small = make(name, **changes)
    save_model(tmp_path / "base", small, tokenizer_json(), {"stop_ids": [1]})
    model = make(name, **changes | {"vocab_size": 520})
    with torch.no_grad():
        for key, tensor in small.state_dict().items():
            model.state_dict()[key][: tensor.size(0)] = tensor
    apply_lora(model, LoraConfig(rank=2), seed=0)
    model.embedding.requires_grad_(True)
    tokenizer = tokenizer_json().replace('"version": "1.0"', '"version":  "1.0"')
    save_adapter(tmp_path / "adapter", model, str(tmp_path / "base"), tokenizer, {"stop_ids": [519]})
    loaded, config, text, extra = load_model(tmp_path / "adapter")
    assert (config.vocab_size, text, extra) == (520, tokenizer, {"stop_ids": [519]})
    close(logits_of(loaded, some_tokens(model, 2, 20)), logits_of(model, some_tokens(model, 2, 20)))
    with pytest.raises(DataError, match="changes the shape"):
        load_adapter_into(tmp_path / "adapter", small)
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    base.resize_token_embeddings(520)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        applied = theirs.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    close(logits_of(applied, some_tokens(model, 2, 20)), logits_of(model, some_tokens(model, 2, 20)))


def test_our_names_where_there_is_no_class(tmp_path: Path) -> None:
    """A GPT-3 with sliding layers with biases; a classifier, whose label head belongs to the update."""
    model = make("test-gpt3")
    save_model(tmp_path / "base", model, tokenizer_json(), {})
    apply_lora(model, LoraConfig(rank=2, dora=True), seed=0)
    with torch.no_grad():
        for _, layer in lora_layers(model):
            layer.lora_b.normal_(0, 0.2)
    save_adapter(tmp_path / "adapter", model, str(tmp_path / "base"))
    stored = tensor_files.read_tensors(tmp_path / "adapter" / "adapter_model.safetensors")
    assert "base_model.model.blocks.0.attention.query.lora_A.weight" in stored
    tokens = some_tokens(model, 2, 20)
    close(logits_of(load_model(tmp_path / "adapter")[0], tokens), logits_of(model, tokens))

    classifier = Classifier(make("test-gpt2"), labels=3).eval()
    apply_lora(classifier, LoraConfig(rank=2), seed=0)
    classifier.label_head.requires_grad_(True)
    with torch.no_grad():
        for _, layer in lora_layers(classifier):
            layer.lora_b.normal_(0, 0.2)
    save_adapter(tmp_path / "labels", classifier, str(tmp_path / "base"))
    fresh = Classifier(make("test-gpt2"), labels=3, seed=5).eval()
    load_adapter_into(tmp_path / "labels", fresh)
    lengths = torch.tensor([[20], [11]])
    with torch.no_grad():
        close(fresh(tokens[:, None], lengths)[0], classifier(tokens[:, None], lengths)[0])
    with pytest.raises(DataError, match="of a classifier"):
        load_model(tmp_path / "labels")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"peft_type": "LOHA"}, "peft_type = LOHA"),
        ({"bias": "all"}, "bias = all"),
        ({"base_model_name_or_path": "openai-community/gpt2"}, "not on this machine: openai-community/gpt2"),
        ({"base_model_name_or_path": None}, "not on this machine"),
    ],
)
def test_other_updates_are_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    """DataError (3), not other logits."""
    model = build(tmp_path / "base", "gpt2", LoraConfig(rank=2))
    save_adapter(tmp_path / "adapter", model, str(tmp_path / "base"))
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    (tmp_path / "adapter" / "manifest.json").unlink()
    with pytest.raises(DataError, match=words):
        load_model(tmp_path / "adapter")


def test_an_update_of_another_model(tmp_path: Path) -> None:
    """Its shapes or modules do not fit the base that it names."""
    model = build(tmp_path / "base", "gpt2", LoraConfig(rank=2))
    save_adapter(tmp_path / "adapter", model, str(tmp_path / "base"))
    (tmp_path / "adapter" / "manifest.json").unlink()
    path = tmp_path / "adapter" / "adapter_config.json"
    for name, other in (("wide", make("test-gpt2", hidden_size=128)), ("modern", make("test-modern"))):
        save_model(tmp_path / name, other, tokenizer_json(), {})
        told = json.loads(path.read_text()) | {"base_model_name_or_path": f"../{name}"}
        path.write_text(json.dumps(told))
        with pytest.raises(DataError, match=r"does not fit|does not have"):
            load_model(tmp_path / "adapter")


def made_by_peft(folder: Path, case: str = "llama", **settings: Any) -> tuple[Any, Tensor]:
    """Write a base and an adapter that peft made of it and moved; give what peft opens, and some tokens."""
    name, changes = CASES[case]
    model = make(name, **changes)
    save_model(folder / "base", model, tokenizer_json(), {})
    base = transformers.AutoModelForCausalLM.from_pretrained(folder / "base")
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = theirs.get_peft_model(base, theirs.LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=10, **settings))
        with torch.no_grad():
            for parameter in made.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        made.save_pretrained(folder / "adapter")
        fresh = transformers.AutoModelForCausalLM.from_pretrained(folder / "base")
        opened = theirs.PeftModel.from_pretrained(fresh, folder / "adapter").eval()
    return opened, some_tokens(model, 2, 20)


@pytest.mark.parametrize(
    ("case", "settings"),
    [
        ("llama", {"target_modules": ["q_proj"], "init_lora_weights": "gaussian"}),
        ("llama", {"target_modules": ["q_proj"], "init_lora_weights": "orthogonal"}),
        ("llama", {"target_modules": ["q_proj"], "alpha_pattern": {"layers.0.self_attn.*": 3}}),
        ("llama", {"target_modules": "all-linear", "alpha_pattern": {"^model.*": 3, ".*down_proj": 50}}),
        ("llama", {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {r".*layers\.[01]\..*q_proj": 2}}),
        ("llama", {"target_modules": ["q_proj", "embed_tokens"]}),
        ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}),
        ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
        ("llama", {"target_modules": ["q_proj", "lm_head"]}),
        ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["norm"], "use_dora": True, "use_rslora": True}),
        ("gpt2", {"target_modules": ["c_attn", "wte"], "fan_in_fan_out": True}),
        ("gpt2", {"target_modules": ["c_attn"], "fan_in_fan_out": True, "modules_to_save": ["wte"]}),
        ("gpt2-untied", {"target_modules": ["c_attn", "wte"], "fan_in_fan_out": True, "use_rslora": True}),
    ],
)
def test_what_peft_computes(tmp_path: Path, case: str, settings: dict[str, Any]) -> None:
    """Patterns, embeddings, and heads that are tied in the base but changed alone."""
    opened, tokens = made_by_peft(tmp_path, case, **settings)
    close(logits_of(load_model(find_model(str(tmp_path / "adapter")))[0], tokens), logits_of(opened, tokens))


@pytest.mark.parametrize("targets", [["q_proj"], ["embed_tokens"], ["q_proj", "lm_head"]])
def test_a_base_that_has_changed_is_stored_too(tmp_path: Path, targets: list[str]) -> None:
    """With save_embedding_layers the adapter holds the base's own table, which the tied head shares."""
    base = make(*CASES["llama"][:1], **CASES["llama"][1])
    save_model(tmp_path / "base", base, tokenizer_json(), {})

    def opened() -> Any:
        return transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = theirs.get_peft_model(opened(), theirs.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=targets))
        torch.manual_seed(0)
        with torch.no_grad():
            made.get_input_embeddings().weight.add_(0.1)
            for parameter in made.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        made.save_pretrained(tmp_path / "adapter", save_embedding_layers=True)
        applied = theirs.PeftModel.from_pretrained(opened(), tmp_path / "adapter").eval()
    tokens = some_tokens(base, 2, 20)
    close(logits_of(load_model(find_model(str(tmp_path / "adapter")))[0], tokens), logits_of(applied, tokens))


@pytest.mark.parametrize("init", ["pissa", "pissa_niter_4", "olora", "mica"])
def test_initializations_that_change_the_base_are_refused(tmp_path: Path, init: str) -> None:
    made_by_peft(tmp_path, target_modules=["q_proj"], init_lora_weights=init)
    with pytest.raises(DataError, match=f"init_lora_weights = {init}"):
        load_model(tmp_path / "adapter")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"init_lora_weights": "corda"}, "init_lora_weights = corda"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights = loftq"),
        ({"a_new_idea": {"strength": 2}}, "a_new_idea ="),
        ({"trainable_token_indices": [3]}, "trainable_token_indices"),
        ({"alpha_pattern": {"q_proj(": 2}}, "invalid pattern"),
        ({"use_dora": True}, "has no tensor .*lora_magnitude_vector"),
        ({"r": 5}, "does not fit its weight"),
    ],
)
def test_unknown_settings_are_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    made_by_peft(tmp_path, target_modules=["q_proj"])
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=words):
        load_model(tmp_path / "adapter")


@pytest.mark.parametrize("name", ["lora_B.bias", "lora_magnitude_vector", "lora_C.weight", "lora_embedding_B"])
def test_tensors_without_a_use_are_refused(tmp_path: Path, name: str) -> None:
    made_by_peft(tmp_path, target_modules=["q_proj"])
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    stored = {key: tensor.clone() for key, tensor in tensor_files.read_tensors(path).items()}
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    tensor_files.write_tensors(path, stored | {f"{module}.{name}": torch.ones(4)})
    with pytest.raises(DataError, match=f"does not compute: model.layers.0.self_attn.q_proj.{name}"):
        load_model(tmp_path / "adapter")
