"""Model folders and transformers: its classes open ours and compute the same; ours open its."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from gptctl.core.errors import DataError, UsageError
from gptctl.model.config import ModelConfig, load_preset, preset_names
from gptctl.model.files import model_manifest
from gptctl.model.files.locate import find_model
from gptctl.model.folder import load_model
from gptctl.model.gpt import GPT
from gptctl.model.hf import tensors
from gptctl.model.hf.config_export import to_hf_config
from gptctl.model.hf.family_lookup import closest_family, unsupported_reason
from gptctl.model.save import save_model, write_transformers
from gptctl.model.vocab_padding import unpad_vocab
from gptctl.text.tokenizer import Tokenizer
from tests.evals.small_model import END_ID, tokenizer_json
from tests.model.test_gpt import logits_of, make, some_tokens

transformers = pytest.importorskip("transformers")
CONTEXT = 80
# Each class, by configs of ours: the presets' and what else it can compute. No parameter is zero or one.
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "vaswani": ("test-vaswani", {}, "OpenAIGPTLMHeadModel"),
    "vaswani-untied": ("test-vaswani", {"tie_embeddings": False}, "OpenAIGPTLMHeadModel"),
    "gpt1": ("test-gpt1", {}, "OpenAIGPTLMHeadModel"),
    "gpt2": ("test-gpt2", {}, "GPT2LMHeadModel"),
    "gpt2-untied": ("test-gpt2", {"tie_embeddings": False}, "GPT2LMHeadModel"),
    "char-cpu": ("char-cpu", {"layers": 2, "hidden_size": 64, "intermediate_size": 256}, "GPT2LMHeadModel"),
    "gpt3-dense": ("test-gpt3", {"layer_pattern": ["full"]}, "GPT2LMHeadModel"),
    "gpt3-sliding": ("test-gpt3", {"bias": False}, "GPTNeoForCausalLM"),
    "modern": ("test-modern", {}, "Qwen3ForCausalLM"),
    "modern-untied": ("test-modern", {"tie_embeddings": False}, "Qwen3ForCausalLM"),
    "modern-scaled": ("test-modern", {"embedding_scale": True}, "Qwen3ForCausalLM"),
    "llama": ("test-modern", {"qk_norm": False}, "LlamaForCausalLM"),
    "llama-bias": ("test-modern", {"qk_norm": False, "bias": True, "kv_heads": 0}, "LlamaForCausalLM"),
    "char-modern": ("char-modern", {"layers": 2, "hidden_size": 64, "intermediate_size": 256}, "Qwen3ForCausalLM"),
    "arcee": (
        "char-modern",
        {"layers": 2, "hidden_size": 64, "intermediate_size": 256, "qk_norm": False},
        "ArceeForCausalLM",
    ),
    "modern-sliding": ("test-modern", {"layer_pattern": ["sliding", "full"], "sliding_window": 8}, "Qwen3ForCausalLM"),
    "moe": ("test-moe", {}, "MixtralForCausalLM"),
    "moe-qk-norm": ("test-moe", {"qk_norm": True, "kv_heads": 2}, "Qwen3MoeForCausalLM"),
}
cases = pytest.mark.parametrize("case", CASES)


def build(case: str, **more: Any) -> GPT:
    name, changes, _ = CASES[case]
    return make(name, **({"max_seq_len": CONTEXT, "vocab_size": END_ID + 1, "end_of_text": END_ID} | changes | more))


def exported(folder: Path, model: GPT, extra: dict[str, Any] | None = None) -> Path:
    save_model(folder, model, tokenizer_json(), extra or {})
    return folder


def theirs(folder: Path) -> Any:
    """Open a folder as a user of transformers does; nothing may be missing from it, nor of no use."""
    opened, report = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    return opened.eval()


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


@cases
def test_transformers_computes_the_same(tmp_path: Path, case: str) -> None:
    """Logits and loss at lengths 1, 17 and the whole context; rows padded on the left; token by token with its cache."""
    model = build(case)
    opened = theirs(exported(tmp_path / "model", model))
    assert type(opened).__name__ == CASES[case][2]
    for length in (1, 17, CONTEXT):
        tokens = some_tokens(model, 2, length)
        mine, other = logits_of(model, tokens), logits_of(opened, tokens)
        close(mine, other)
        targets = some_tokens(model, 2, length).flatten()
        losses = [F.cross_entropy(logits.flatten(0, 1), targets) for logits in (mine, other)]
        assert abs(losses[0] - losses[1]) <= 1e-6 * losses[0] + 1e-6
    tokens = some_tokens(model, 2, 17)
    mask = torch.ones_like(tokens)
    mask[0, :8] = 0
    padded = logits_of(opened, tokens, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0))
    close(logits_of(model, tokens[:1, 8:])[0], padded[0, 8:])
    close(logits_of(model, tokens[1:])[0], padded[1])
    if case.startswith(("vaswani", "gpt1")):
        return  # OpenAIGPTLMHeadModel has no cache
    cache, pieces = None, []
    for piece in (tokens[:, :10], *tokens[:, 10:].split(1, dim=1)):
        with torch.no_grad():
            out = opened(piece, cache=cache, use_cache=True)
        cache = out.past_key_values
        pieces.append(out.logits)
    close(logits_of(model, tokens), torch.cat(pieces, dim=1))


@cases
def test_the_same_64_tokens_come_first(tmp_path: Path, case: str) -> None:
    """Greedy decoding by transformers' generate, with its cache and without."""
    model = build(case)
    opened = theirs(exported(tmp_path / "model", model))
    opened.generation_config = transformers.GenerationConfig(do_sample=False, max_new_tokens=64, pad_token_id=0)
    prompt = tokens = some_tokens(model, 1, 10)
    for _ in range(64):
        tokens = torch.cat((tokens, logits_of(model, tokens)[:, -1:].argmax(-1)), dim=1)
    for use_cache in (True, False):
        assert torch.equal(opened.generate(prompt, use_cache=use_cache), tokens)


@cases
def test_what_goes_out_comes_back(tmp_path: Path, case: str) -> None:
    """Config, tokenizer, extras, and every bit of every weight."""
    model = build(case)
    loaded, config, text, extra = load_model(exported(tmp_path / "model", model, {"stage": "test"}))
    assert (config, text, extra) == (model.config, tokenizer_json(), {"stage": "test"})
    assert_equal_weights(loaded, model)


def assert_equal_weights(one: Any, other: Any) -> None:
    """Compare all but the padding of the vocabulary, which no logit depends on."""
    mine, wanted = ({n: unpad_vocab(n, t, m.config) for n, t in m.state_dict().items()} for m in (one, other))
    assert mine.keys() == wanted.keys()
    assert all(torch.equal(mine[name], tensor) for name, tensor in wanted.items())


@cases
def test_a_folder_that_transformers_wrote(tmp_path: Path, case: str) -> None:
    """Its save_pretrained, with our words in config.json and without: the same logits; in the latter case tables of
    positions and scaled embeddings are weights like others."""
    model = build(case)
    opened = theirs(exported(tmp_path / "model", model))
    tokens = some_tokens(model, 2, 33)
    for name in ("kept", "foreign"):
        opened.save_pretrained(tmp_path / name)
        (tmp_path / name / "tokenizer.json").write_text(tokenizer_json())
        if name == "foreign":
            told = json.loads((tmp_path / name / "config.json").read_text())
            assert told.pop("gptctl")
            (tmp_path / name / "config.json").write_text(json.dumps(told))
        loaded, config, _, extra = load_model(find_model(str(tmp_path / name)))
        assert name == "foreign" or config == model.config
        close(logits_of(loaded, tokens), logits_of(model, tokens))
        assert config.end_of_text == END_ID
    assert extra["stop_ids"] == [END_ID]


@pytest.mark.parametrize("case", ["vaswani", "gpt2-untied", "char-cpu", "char-modern"])
def test_what_transformers_changed_counts(tmp_path: Path, case: str) -> None:
    """Trained on there, a table of sinusoidal_positions, a bias that was none, a head are what they are now; where one matrix was
    two copies and no longer is, there is no config for it."""
    model = build(case)
    opened = theirs(exported(tmp_path / "model", model))
    with torch.no_grad():
        for parameter in opened.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    opened.save_pretrained(tmp_path / "changed")
    (tmp_path / "changed" / "tokenizer.json").write_text(tokenizer_json())
    if case == "char-modern":
        with pytest.raises(DataError, match="up_proj"):
            load_model(tmp_path / "changed")
        return
    loaded = load_model(tmp_path / "changed")[0]
    tokens = some_tokens(model, 2, 33)
    close(logits_of(loaded, tokens), logits_of(opened, tokens))


def test_a_resized_vocabulary_counts(tmp_path: Path) -> None:
    """transformers' resize_token_embeddings leaves our words in config.json behind."""
    opened = theirs(exported(tmp_path / "model", build("gpt2")))
    opened.resize_token_embeddings(300)
    opened.save_pretrained(tmp_path / "wide")
    (tmp_path / "wide" / "tokenizer.json").write_text(tokenizer_json())
    assert load_model(tmp_path / "wide")[1].vocab_size == 300


def test_gpt2_as_it_was_published(tmp_path: Path) -> None:
    """Names without prefix, masks among the tensors, settings left out, the tokenizer in two files, all in shards."""
    model = build("gpt2")
    folder = exported(tmp_path / "model", model)
    stored = {name.removeprefix("transformer."): t for name, t in load_file(folder / "model.safetensors").items()}
    stored["h.0.attn.bias"] = torch.tril(torch.ones(CONTEXT, CONTEXT)).view(1, 1, CONTEXT, CONTEXT)
    published = tmp_path / "published"
    published.mkdir()
    names = sorted(stored)
    halves = {"a.safetensors": names[:9], "b.safetensors": names[9:]}
    for file, part in halves.items():
        save_file({name: stored[name] for name in part}, published / file)
    index = {"weight_map": {name: file for file, part in halves.items() for name in part}}
    (published / "model.safetensors.index.json").write_text(json.dumps(index))
    told = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_layer": 2, "n_head": 4, "n_embd": 64,
            "n_positions": CONTEXT, "vocab_size": END_ID + 1, "eos_token_id": END_ID}  # fmt: skip
    (published / "config.json").write_text(json.dumps(told))
    definition = json.loads(tokenizer_json())
    (published / "vocab.json").write_text(json.dumps(definition["model"]["vocab"]))
    (published / "merges.txt").write_text("#version: 0.2\n")
    (published / "tokenizer_config.json").write_text(json.dumps({"chat_template": [
        {"name": "tool", "template": "no"}, {"name": "default", "template": "{{ messages }}"}]}))  # fmt: skip
    loaded, config, text, extra = load_model(find_model(str(published)))
    assert_equal_weights(loaded, model)
    assert (config.layers, config.intermediate_size, config.activation) == (2, 256, "gelu_tanh")
    special = extra.pop("special_tokens")
    assert (special["bos_token"], special["eos_token"]) == (None, "<|endoftext|>")
    assert extra == {"chat_template": "{{ messages }}", "stop_ids": [END_ID]}
    assert Tokenizer.from_json(text).encode("a b") == Tokenizer.from_json(tokenizer_json()).encode("a b")
    (published / "chat_template.jinja").write_text("newer")
    assert load_model(published)[3]["chat_template"] == "newer"
    assert model_manifest.weights_fingerprint(published) != model_manifest.weights_fingerprint(folder)
    (published / "merges.txt").write_text("a b</w>\n")  # as GPT-1's, whose pieces are not bytes
    with pytest.raises(DataError, match="not byte-level"):
        load_model(published)
    (published / "vocab.json").unlink()
    with pytest.raises(DataError, match="has no tokenizer"):
        load_model(published)


def test_an_older_mixtral_and_rope(tmp_path: Path) -> None:
    """Settings as transformers 4 wrote them: rope_theta by itself, scaling as null."""
    model = build("llama", rope_theta=500.0)
    folder = exported(tmp_path / "model", model)
    told = json.loads((folder / "config.json").read_text())
    for name in ("rope_parameters", "gptctl", "head_dim"):
        del told[name]
    (folder / "config.json").write_text(json.dumps(told | {"rope_scaling": None}))
    (folder / "manifest.json").unlink()
    loaded, config, _, _ = load_model(folder)
    assert config.rope_theta == 500.0
    assert_equal_weights(loaded, model)


def test_files_elsewhere_are_not_read(tmp_path: Path) -> None:
    """An index that points out of its folder."""
    folder = exported(tmp_path / "model", build("gpt2"))
    (folder / "model.safetensors").rename(tmp_path / "model.safetensors")
    index = {"weight_map": {"transformer.wte.weight": "../model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "manifest.json").unlink()
    with pytest.raises(DataError, match="lists no files of this folder"):
        load_model(folder)


@pytest.mark.parametrize("case", ["vaswani", "gpt2", "moe"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(tmp_path: Path, case: str, dtype: torch.dtype) -> None:
    """Each weight is rounded once; what is opened here computes in float32."""
    model = build(case)
    write_transformers(tmp_path, model, tokenizer_json(), {}, dtype)
    opened = theirs(tmp_path)
    assert opened.dtype == dtype
    loaded, config, _, _ = load_model(tmp_path)
    assert config == model.config
    rounded = GPT(config)
    rounded.load_state_dict({name: tensor.to(dtype).float() for name, tensor in model.state_dict().items()})
    assert_equal_weights(loaded, rounded)
    tokens = some_tokens(model, 2, 33)
    apart = (logits_of(opened, tokens).float() - logits_of(loaded, tokens)).abs()
    assert apart.median() < 0.05  # the largest may be far: a router may choose another expert


def test_large_models_are_cut(tmp_path: Path) -> None:
    """Files of at most so many bytes, and an index, as transformers and gptctl read them."""
    model = build("modern")
    write_transformers(tmp_path, model, tokenizer_json(), {}, max_bytes=100_000)
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    assert len(files) > 2
    assert all((tmp_path / name).stat().st_size < 103_000 for name in files)
    close(logits_of(theirs(tmp_path), some_tokens(model, 1, 9)), logits_of(model, some_tokens(model, 1, 9)))
    assert_equal_weights(load_model(tmp_path)[0], model)


def test_no_preset_is_refused() -> None:
    for name in preset_names():
        assert not unsupported_reason(ModelConfig.model_validate(load_preset(name)["model"]))


@pytest.mark.parametrize("name", [name for name in preset_names() if load_preset(name)["model"]["layers"] <= 24])
def test_every_preset_has_its_class(name: str) -> None:
    """At full size, without memory for it: the names and the count of parameters; deeper ones have a smaller kin here.

    GPT-3 with sliding layers has GPT-Neo's, but for biases, which training fills.
    """
    config = ModelConfig.model_validate(load_preset(name)["model"])
    family = closest_family(config)
    with torch.device("meta"):
        shape = transformers.AutoConfig.for_model(**to_hf_config(config, family))
        opened = getattr(transformers, family.architecture)(shape)
    own = {name: parameter.numel() for name, parameter in opened.named_parameters()}
    if not config.experts:  # which are one tensor in memory and many on disk
        placed = {theirs for module in tensors.map_modules(family, config) for theirs, _ in module.tensor_names()}
        assert placed == own.keys()
    if family.model_type in ("gpt2", "qwen3", "mixtral") and config.bias == (family.model_type == "gpt2"):
        gate = config.layers * config.intermediate_size * config.hidden_size if config.activation == "relu2" else 0
        assert sum(own.values()) == config.parameters() + gate


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("test-gpt3", {}, "no place for blocks.0.attention.query.bias"),
        ("test-modern", {"logit_softcap": 15.0}, "logit_softcap = 15.0"),
        (
            "test-modern",
            {"layer_pattern": ["sliding", "full"], "qk_norm": False, "sliding_window": 8, "norm_position": "output"},
            "norm_position = output",
        ),
        ("test-modern", {"architecture": "MistralForCausalLM"}, "MistralForCausalLM has no qk_norm = True"),
        ("test-modern", {"architecture": "Mistral"}, "model.architecture Mistral is not known"),
        ("test-modern", {"rope_pattern": [True, False]}, "rope_pattern"),
        ("test-modern", {"attention_softcap": 20.0}, "attention_softcap = 20.0"),
        ("test-modern", {"bias": True}, "no place for blocks.0.feed_forward"),
        ("test-modern", {"positions": "learned"}, "positions = learned"),
        ("test-gpt2", {"kv_heads": 2}, "kv_heads = 2"),
        ("test-gpt2", {"activation": "swiglu"}, "activation = swiglu"),
        ("test-gpt2", {"qk_norm": True}, "qk_norm = True"),
        ("test-gpt1", {"final_norm": True}, "final_norm = True"),
        ("test-gpt1", {"intermediate_size": 128}, "intermediate_size = 128"),
        ("test-gpt1", {"activation": "gelu"}, "activation = gelu"),
    ],
)
def test_what_no_class_computes(tmp_path: Path, name: str, changes: dict[str, Any], words: str) -> None:
    """It is refused with the reason, and a run's folder keeps our names, which gptctl opens."""
    model = make(name, **changes)
    with pytest.raises(UsageError, match=words):
        write_transformers(tmp_path, model, tokenizer_json(), {})
    save_model(tmp_path / "model", model, "{}", {})
    assert "embedding.weight" in load_file(tmp_path / "model" / "model.safetensors")
    assert_equal_weights(load_model(tmp_path / "model")[0], model)
    assert "no class computes the same" in (tmp_path / "model" / "README.md").read_text()


def test_a_band_as_wide_as_the_context_is_none(tmp_path: Path) -> None:
    """Every token sees all before: GPT-2."""
    model = build("gpt3-sliding", bias=True, sliding_window=CONTEXT)
    opened = theirs(exported(tmp_path / "model", model))
    assert type(opened).__name__ == "GPT2LMHeadModel"
    close(logits_of(opened, some_tokens(model, 2, CONTEXT)), logits_of(model, some_tokens(model, 2, CONTEXT)))


def test_tokenizer_chat_template_and_ends(tmp_path: Path) -> None:
    """AutoTokenizer gives our ids; end-of-text begins, ends and pads; generation stops where training says."""
    template = "{% for m in messages %}{{ m['content'] }};{% endfor %}"
    folder = exported(tmp_path / "model", build("modern"), {"chat_template": template, "stop_ids": [7, END_ID]})
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    text = "Hello  world's 12345\n\n\té 日本 "
    assert tokenizer(text)["input_ids"] == Tokenizer.from_json(tokenizer_json()).encode(text)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == tokenizer.pad_token_id == END_ID
    assert tokenizer.model_max_length == CONTEXT
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == "a;b;"
    ends = transformers.GenerationConfig.from_pretrained(folder)
    assert (ends.eos_token_id, ends.bos_token_id, ends.pad_token_id) == ([7, END_ID], END_ID, END_ID)
