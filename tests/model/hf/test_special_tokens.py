"""What begins and ends a text of a model that another program made, compared with transformers and lm-eval."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from gptctl.core.errors import DataError
from gptctl.evals.inference.loaded_model import load
from gptctl.evals.inference.options import InferenceOptions
from gptctl.evals.inference.worker import InferenceSpec
from gptctl.evals.tasks import generate as generate_task
from gptctl.infer.decoder import Decoder
from gptctl.infer.engine import Engine
from gptctl.infer.generator import TextGenerator
from gptctl.infer.sampling import SamplingParams
from gptctl.infer.text_stream import TextStream
from gptctl.model.folder import load_model
from gptctl.model.gguf.writer import write_gguf
from gptctl.model.hf.files import read_tokenizer
from gptctl.model.save import write_transformers
from gptctl.text.chat import ChatTemplate
from gptctl.text.special_tokens import SpecialTokens
from gptctl.text.tokenizer import Tokenizer
from gptctl.train.tasks.lm import encode_stream
from tests.model.hf.foreign_folders import FAMILIES, LLAMA3_TEMPLATE, make_folder, make_tokenizer

transformers = pytest.importorskip("transformers")
GREEDY = SamplingParams(max_tokens=12, temperature=0.0)
TEXT = "Once upon a time 12 words"
TURNS = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "There"},
    {"role": "user", "content": "So?"},
]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp(family), family)


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(folder)


def continued(folder: Path, ids: list[int], count: int = GREEDY.max_tokens) -> list[int]:
    """What transformers writes after some tokens, greedily."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokens = torch.tensor([ids])
    with torch.no_grad():
        whole = model.generate(
            tokens, attention_mask=torch.ones_like(tokens), do_sample=False, temperature=None, top_p=None,
            max_new_tokens=count, pad_token_id=0,
        )  # fmt: skip
    return list(whole[0, len(ids) :].tolist())


def test_prompts_are_those_of_transformers(folder: Path, theirs: Any) -> None:
    generator = TextGenerator.load(folder, device="cpu")
    assert generator.encode([TEXT], 4) == [theirs(TEXT).input_ids]
    made = generator.generate(generator.encode([TEXT], 12), GREEDY)[0][0]
    wanted = continued(folder, theirs(TEXT).input_ids)
    stops = set(generator.stop_ids)
    assert made.token_ids == [token for token in wanted if token not in stops]
    assert stops == set(np.atleast_1d(json.loads((folder / "config.json").read_text())["eos_token_id"]).tolist())


def test_chats_are_those_of_transformers(folder: Path, theirs: Any, family: str) -> None:
    if not theirs.chat_template:
        pytest.skip(f"{family} has no chat template")
    template = TextGenerator.load(folder, device="cpu").require_chat_template()
    wanted = theirs.apply_chat_template(TURNS, add_generation_prompt=True, tokenize=True, return_dict=False)
    assert template.prompt(TURNS) == wanted
    spelled = [{"role": "user", "content": f"{theirs.eos_token}{theirs.bos_token}"}]
    special = [token for token in template.prompt(spelled) if token in template.tokenizer.special_ids]
    assert special == [token for token in template.prompt([{"role": "user", "content": ""}]) if token in special]


def test_exports_keep_them(folder: Path, theirs: Any, tmp_path: Path, family: str) -> None:
    saved = load_model(folder)
    write_transformers(tmp_path, saved.model, saved.tokenizer_json, saved.extra)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for name in ("bos_token", "eos_token"):
        assert getattr(again, name) == getattr(theirs, name)
    assert again(TEXT).input_ids == theirs(TEXT).input_ids
    before, after = (transformers.GenerationConfig.from_pretrained(path) for path in (folder, tmp_path))
    for name in ("eos_token_id", "temperature", "top_p", "do_sample"):
        assert getattr(after, name) == getattr(before, name)
    opened = load_model(tmp_path)
    assert opened.extra == saved.extra
    assert opened.tokenizer().with_prefix([7]) == saved.tokenizer().with_prefix([7])


@pytest.mark.parametrize("family", ["llama-3", "qwen", "gpt2"], indirect=True, scope="module")
def test_gguf_has_them(folder: Path, tmp_path: Path, family: str) -> None:
    gguf = pytest.importorskip("gguf")
    saved = load_model(folder)
    write_gguf(tmp_path / "model.gguf", saved.model, saved.tokenizer_json, saved.extra)
    fields = gguf.GGUFReader(tmp_path / "model.gguf").fields
    names = fields["tokenizer.ggml.tokens"].contents()
    begins = fields.get("tokenizer.ggml.bos_token_id")
    told = FAMILIES[family][2]
    assert (begins and names[begins.contents()]) == told["bos_token"]
    assert bool(fields["tokenizer.ggml.add_bos_token"].contents()) == (family == "llama-3")
    keys = [f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot")]
    ends = {fields[key].contents() for key in keys if key in fields}
    assert ends == {names.index(name) for name in FAMILIES[family][3]}
    if family == "qwen":
        types = fields["tokenizer.ggml.token_type"].contents()
        assert types[names.index("<think>")] == gguf.TokenType.USER_DEFINED
        assert types[names.index("<|im_start|>")] == gguf.TokenType.CONTROL


@pytest.mark.parametrize("add_bos", [None, True, False])
def test_log_likelihoods_are_those_of_lm_eval(folder: Path, add_bos: bool | None) -> None:
    pytest.importorskip("lm_eval")
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    from gptctl.evals.harness.harness_model import HarnessModel

    pairs = [(TEXT, " and the world"), ("", "Once upon"), ("a model ", "of words"), ("It had", "12")]
    texts = [TEXT, "the words of the world. " * 9]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    if add_bos is not None:
        tokenizer.add_bos_token = add_bos
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    theirs = HFLM(model, tokenizer=tokenizer, add_bos_token=add_bos, device="cpu", batch_size=1)
    ours = HarnessModel(InferenceSpec(str(folder), "", "lm", InferenceOptions(add_bos_token=add_bos), "cpu", threads=1))

    def requests(kind: str, arguments: list[tuple[str, ...]]) -> list[Any]:
        return [Instance(kind, {}, argument, number) for number, argument in enumerate(arguments)]

    wanted = theirs.loglikelihood(requests("loglikelihood", pairs), disable_tqdm=True)
    found = ours.loglikelihood(requests("loglikelihood", pairs), disable_tqdm=True)
    np.testing.assert_allclose([value for value, _ in found], [value for value, _ in wanted], atol=1e-4)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in wanted]
    rolling = requests("loglikelihood_rolling", [(text,) for text in texts])
    np.testing.assert_allclose(
        ours.loglikelihood_rolling(rolling, disable_tqdm=True),
        theirs.loglikelihood_rolling(rolling, disable_tqdm=True),
        atol=1e-4,
    )


def test_eval_stops_where_generate_does(folder: Path) -> None:
    """A model whose greedy text ends with its second stop token."""
    model = load(str(folder), "stops")
    table = pa.table({"id": ["a"], "text": [TEXT], "label": ["x"]})
    options = InferenceOptions(max_tokens=30, stop=())
    requests = generate_task.build_requests(table, model, options).requests
    text = generate_task.run_requests(model, requests, options, torch.device("cpu"))["text"][0]
    generator = TextGenerator.load(folder, device="cpu")
    made = generator.generate(generator.encode([TEXT], 30), SamplingParams(max_tokens=30, temperature=0.0))[0][0]
    assert text == model.tokenizer.decode(made.token_ids)


def test_texts_for_continued_training(folder: Path, theirs: Any) -> None:
    """Each text is tokenized as by transformers, and followed by end-of-text."""
    tokenizer = load_model(folder).tokenizer()
    table = pa.table({"text": ["Once upon", "a time"]})
    wanted = [token for text in ("Once upon", "a time") for token in (*theirs(text).input_ids, theirs.eos_token_id)]
    assert encode_stream(table, tokenizer).tolist() == wanted


def test_the_end_is_what_the_config_names(tmp_path: Path) -> None:
    """A vocabulary may also have an ordinary token that is called like another model's end."""
    folder = make_folder(tmp_path, "llama-3")
    definition = json.loads((folder / "tokenizer.json").read_text())
    places = {token["content"]: token for token in definition["added_tokens"]}
    places["<|end_of_text|>"]["content"] = "[EOS]"
    places["<|start_header_id|>"] |= {"content": "</s>"}
    definition["model"]["vocab"] = {
        {"<|end_of_text|>": "[EOS]", "<|start_header_id|>": "</s>"}.get(name, name): number
        for name, number in definition["model"]["vocab"].items()
    }
    (folder / "tokenizer.json").write_text(json.dumps(definition))
    (folder / "tokenizer_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": places["<|end_of_text|>"]["id"]}))
    (folder / "generation_config.json").unlink()
    saved = load_model(folder)
    assert saved.tokenizer().end_of_text == "[EOS]"
    assert saved.extra["stop_ids"] == [places["<|end_of_text|>"]["id"]]


def test_two_files_and_the_tokens_beside_them(tmp_path: Path) -> None:
    """vocab.json and merges.txt, with added_tokens.json and special_tokens_map.json of older folders."""
    folder = make_folder(tmp_path, "gpt2")
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer.json").unlink()
    size = len(model["vocab"])
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in model["merges"]))
    (folder / "added_tokens.json").write_text(json.dumps({"<|user|>": size, "<|bot|>": size + 1, "<think>": size + 2}))
    (folder / "special_tokens_map.json").write_text(
        json.dumps(
            {"bos_token": "<|bot|>", "eos_token": {"content": "<|endoftext|>"}, "extra_special_tokens": ["<|user|>"]}
        )
    )
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True})
    )
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config))
    big = transformers.AutoModelForCausalLM.from_pretrained(folder)
    big.resize_token_embeddings(size + 3)
    big.save_pretrained(folder)
    tokenizer = load_model(folder).tokenizer()
    assert (tokenizer.bos_token, tokenizer.end_of_text) == (theirs.bos_token, theirs.eos_token)
    assert tokenizer.with_prefix(tokenizer.encode(TEXT)) == theirs(TEXT).input_ids
    template = ChatTemplate("<|user|>{{ messages[0].content }}<|bot|>", tokenizer)
    rendered = theirs("<|user|>Hi there<|bot|>", add_special_tokens=False).input_ids
    assert template.prompt([{"role": "user", "content": "Hi there"}]) == rendered
    assert tokenizer.encode("a <think> b") == theirs("a <think> b", add_special_tokens=False).input_ids


@pytest.mark.parametrize("more", [["<|img|>"], {"image_token": "<|img|>"}])
def test_more_special_tokens(tmp_path: Path, more: object) -> None:
    """As a list, or as a table of names that only the model knows."""
    folder = make_folder(tmp_path, "gpt2")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"extra_special_tokens": more}))
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    text = read_tokenizer(folder)
    tokenizer = Tokenizer.from_json(text, SpecialTokens(None, "<|endoftext|>"))
    assert tokenizer.encode_marked("Hi<|img|>so", "\ue0f0") == theirs("Hi<|img|>so").input_ids


def test_a_changed_template_is_another_model(tmp_path: Path) -> None:
    from gptctl.model.files.model_manifest import model_fingerprint

    folder = make_folder(tmp_path, "llama-3")
    path = folder / "tokenizer_config.json"
    before = model_fingerprint(folder)
    path.write_text(path.read_text().replace("user", "human") + "\n")
    changed = model_fingerprint(folder)
    (folder / "chat_template.jinja").write_text(LLAMA3_TEMPLATE)
    assert len({before, changed, model_fingerprint(folder)}) == 3


def test_the_tokenizers_of_the_families_differ() -> None:
    """The families of this test are what they are meant to be."""
    begins = {name: make_tokenizer(name).encode(TEXT).tokens[0] for name in FAMILIES}
    assert begins["llama-2"] == begins["mistral"] == "<s>"
    assert (begins["llama-3"], begins["gemma"]) == ("<|begin_of_text|>", "<bos>")
    assert begins["qwen"] != "<|endoftext|>"


def test_sampling_settings_of_the_model_hold_until_others_are_given(folder: Path) -> None:
    from gptctl.core.context import Context
    from gptctl.stages.generate import Generate, load

    params = load(Generate(model=str(folder)), Context()).params
    assert (params.temperature, params.top_p) == (0.6, 0.9)
    params = load(Generate(model=str(folder), temperature=1.0), Context()).params
    assert (params.temperature, params.top_p) == (1.0, 0.9)


def test_the_text_goes_on_after_the_prompt(tmp_path: Path) -> None:
    """The space before a word belongs to its token; at the very beginning transformers leaves it out."""
    folder = make_folder(tmp_path, "llama-2")
    tokenizer = load_model(folder).tokenizer()
    prompt, rest = tokenizer.encode("Once upon"), tokenizer.encode(" a time")
    whole = tokenizer.decode([*prompt, *rest])
    for start in (prompt, tokenizer.with_prefix(prompt)):
        stream = TextStream(tokenizer, (" time",), start)
        text = "".join(stream.add(token) for token in rest) + stream.finish()
        assert whole.startswith("Once upon" + text)
        assert stream.stopped
    alone = TextStream(tokenizer)
    assert "".join(alone.add(token) for token in rest) + alone.finish() == " a time"
    stream = TextStream(tokenizer, (), tokenizer.with_prefix([]))
    assert "".join(stream.add(token) for token in prompt) + stream.finish() == "Once upon"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "params", [{}, {"temperature": 0.0}, {"top_k": 3, "repetition_penalty": 1.2, "logprobs": True}]
)
def test_a_model_that_computes_nan_is_an_error(tmp_path: Path, value: float, params: dict[str, Any]) -> None:
    folder = make_folder(tmp_path, "gpt2")
    generator = TextGenerator.load(folder, device="cpu")
    saved = load_model(folder)
    with torch.no_grad():
        saved.model.blocks[0].attention.output.weight[0, 0] = value
    engine = Engine(Decoder(saved.model, "fp32"))
    broken = TextGenerator(engine, generator.tokenizer, generator.stop_ids)
    with pytest.raises(DataError, match="not finite"):
        broken.generate(broken.encode([TEXT], 4), SamplingParams(max_tokens=4, **params))


def test_a_tiny_temperature_is_greedy(folder: Path) -> None:
    generator = TextGenerator.load(folder, device="cpu")
    prompts = generator.encode([TEXT], 8)
    made = [
        generator.generate(prompts, SamplingParams(max_tokens=8, temperature=value))[0][0].token_ids
        for value in (0.0, 1e-20, 1e-320)
    ]
    assert made[0] == made[1] == made[2]


def test_a_head_of_its_own_is_not_tied(tmp_path: Path) -> None:
    """transformers takes the head in the file, whatever tie_word_embeddings says."""
    folder = make_folder(tmp_path, "llama-3")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tie_word_embeddings": True}))
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        wanted = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()(tokens).logits
        found = load_model(folder).model(tokens)[..., : wanted.size(-1)]
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"quantization_config": {"quant_method": "bitsandbytes"}}, "quantized .bitsandbytes"), ({"vocab_size": 60}, "")],
)
def test_folders_that_are_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    folder = make_folder(tmp_path, "llama-3")
    config = json.loads((folder / "config.json").read_text())
    if not words:
        model = transformers.AutoModelForCausalLM.from_pretrained(folder)
        model.resize_token_embeddings(config["vocab_size"] - 1)
        model.save_pretrained(folder)
        words = "embeddings for"
    else:
        (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(DataError, match=words):
        load_model(folder)
