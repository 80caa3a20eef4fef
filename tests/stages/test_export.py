"""gptctl export, and other programs' folders as MODEL, by the real command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gptctl.core.context import Context
from gptctl.core.errors import DataError, UsageError
from gptctl.core.summary import Summary
from gptctl.model.classifier import Classifier
from gptctl.model.files import model_manifest
from gptctl.model.files.locate import find_model
from gptctl.model.folder import load_model
from gptctl.model.hf.adapter_save import save_adapter
from gptctl.model.lora import apply_lora, lora_layers
from gptctl.model.lora_config import LoraConfig
from gptctl.model.save import save_model, write_config, write_weights
from gptctl.stages import export, inspect
from gptctl.text.tokenization.training import train
from gptctl.text.tokenizer import Tokenizer
from tests.conftest import Ran, documents, tree_bytes, write_jsonl
from tests.model.test_gpt import make, some_tokens

transformers = pytest.importorskip("transformers")
pytest.importorskip("gguf")
Command = Callable[..., Ran]


@pytest.fixture(scope="module")
def text() -> str:
    return train([row["text"] for row in documents(30)], "bpe", 300)


def run_of(folder: Path, name: str, text: str, **changes: Any) -> Path:
    """Write what a training run leaves: a model in RUN/model."""
    tokenizer = Tokenizer.from_json(text)
    model = make(name, vocab_size=tokenizer.vocab_size, end_of_text=tokenizer.end_of_text_id, **changes)
    save_model(folder / "model", model, text, {"stage": "pretrain", "metrics": {"val_loss": 2.5}})
    return folder


def exported(source: Path, out: Path, **settings: Any) -> Summary:
    """Export as the command does, in this process."""
    return export.run(export.Export.model_validate({"model": str(source), "out": str(out), **settings}))


def test_the_command(gptctl: Command, tmp_path: Path, text: str) -> None:
    """One JSON document on standard output, and a folder with a manifest."""
    run_of(tmp_path / "run", "test-gpt2", text)
    done = gptctl("export", "run", "-o", "out", "--json")
    assert done.code == 0, done.err
    assert done.json["metrics"]["files"] == 5
    model_manifest.verify(tmp_path / "out")


@pytest.mark.parametrize("name", ["test-gpt2", "test-modern", "test-vaswani", "test-moe"])
def test_a_run_becomes_a_folder_of_transformers(tmp_path: Path, text: str, name: str) -> None:
    """It opens there with our logits, here with our weights; the second time it is up to date."""
    run_of(tmp_path / "run", name, text)
    exported(tmp_path / "run", tmp_path / "out")
    model = load_model(tmp_path / "run" / "model")[0]
    opened = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    tokens = some_tokens(model, 2, 17)  # type: ignore[arg-type]
    with torch.no_grad():
        torch.testing.assert_close(opened(tokens).logits, model(tokens), atol=1e-4, rtol=0)
    assert "| val_loss | 2.5000 |" in (tmp_path / "out" / "README.md").read_text()
    again = load_model(tmp_path / "out")
    assert all(torch.equal(t, again[0].state_dict()[n]) for n, t in model.state_dict().items())
    assert exported(tmp_path / "run", tmp_path / "out").status == "up to date"


@pytest.mark.slow
def test_generate_reads_what_export_and_transformers_wrote(gptctl: Command, tmp_path: Path, text: str) -> None:
    """The same words from the run, from the export, and from what transformers saved of it."""
    run_of(tmp_path / "run", "test-modern", text)
    assert gptctl("export", "run", "-o", "out").code == 0
    for name in ("model", "tokenizer"):
        kind = {"model": transformers.AutoModelForCausalLM, "tokenizer": transformers.AutoTokenizer}[name]
        kind.from_pretrained(tmp_path / "out").save_pretrained(tmp_path / "saved")
    asked = ("The statement", "--max-tokens", "12", "--temperature", "0")
    answers = [gptctl("generate", folder, *asked) for folder in ("run", "out", "saved")]
    assert [answer.code for answer in answers] == [0, 0, 0], answers
    assert answers[0].out == answers[1].out == answers[2].out
    assert len(answers[0].out) > len("The statement")


@pytest.mark.slow
def test_eval_and_finetune_read_a_folder_of_transformers(gptctl: Command, tmp_path: Path, text: str) -> None:
    """A foreign folder, without a word of ours, is a MODEL like any other."""
    run_of(tmp_path / "run", "test-gpt2", text)
    foreign = tmp_path / "foreign"
    transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model").save_pretrained(foreign)
    told = json.loads((foreign / "config.json").read_text())
    for name in ("gptctl", "labels", "extra"):
        told.pop(name)
    (foreign / "config.json").write_text(json.dumps(told))
    definition = json.loads(text)["model"]
    (foreign / "vocab.json").write_text(json.dumps(definition["vocab"]))
    (foreign / "merges.txt").write_text("\n".join(" ".join(pair) for pair in definition["merges"]))
    write_jsonl(tmp_path / "texts.jsonl", documents(20))
    losses = [gptctl("eval", model, "texts.jsonl", "--metrics", "loss", "--json") for model in ("run", "foreign")]
    assert [done.code for done in losses] == [0, 0], losses
    assert losses[0].json["metrics"]["loss"] == losses[1].json["metrics"]["loss"]
    tuned = gptctl("finetune", "foreign", "texts.jsonl", "-o", "tuned", "--task", "lm", "--epochs", "1")
    assert tuned.code == 0, tuned.err
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "tuned" / "model")


@pytest.mark.parametrize("kind", ["float32", "q8_0"])
def test_gguf(tmp_path: Path, text: str, kind: str) -> None:
    """One file, which transformers reads, and gptctl says that it does not."""
    run_of(tmp_path / "run", "test-modern", text)
    assert exported(tmp_path / "run", tmp_path / "out", format="gguf", dtype=kind).metrics["files"] == 1
    opened = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", gguf_file="model.gguf", head_dim=16)
    assert type(opened).__name__ == "Qwen3ForCausalLM"
    assert inspect.run(inspect.Inspect(path=str(tmp_path / "out"))).metrics["kind"] == "export"
    with pytest.raises(DataError, match="is a GGUF export, which gptctl does not read"):
        find_model(str(tmp_path / "out"))


def test_half_the_bytes_in_several_files(gptctl: Command, tmp_path: Path, text: str) -> None:
    """--dtype and max_shard_bytes; the folder is a MODEL."""
    run_of(tmp_path / "run", "test-modern", text)
    exported(tmp_path / "run", tmp_path / "out", dtype="bfloat16", max_shard_bytes=60000)
    assert len(list((tmp_path / "out").glob("model-0*.safetensors"))) > 2
    opened = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert opened.dtype == torch.bfloat16
    assert gptctl("generate", "out", "The", "--max-tokens", "3").code == 0


@pytest.mark.slow
def test_checkpoints_and_adapters(gptctl: Command, tmp_path: Path, text: str) -> None:
    """A checkpoint with a low-rank update, and the update alone beside its base, export to the same weights."""
    run_of(tmp_path / "run", "test-gpt2", text)
    model = load_model(tmp_path / "run" / "model")[0]
    lora = LoraConfig(rank=2)
    apply_lora(model, lora, seed=0)
    with torch.no_grad():
        for _, layer in lora_layers(model):
            layer.lora_b.normal_(0, 0.2)
    checkpoint = tmp_path / "tuned" / "checkpoints" / "step-000001"
    checkpoint.mkdir(parents=True)
    write_weights(checkpoint, model, model.state_dict())
    write_config(checkpoint, model, text, {"lora": {"rank": 2}})
    model_manifest.write_manifest(checkpoint, "checkpoint")
    save_adapter(tmp_path / "tuned" / "adapter", model, str(tmp_path / "run"))
    for name, source in (("one", checkpoint), ("two", tmp_path / "tuned" / "adapter")):
        exported(source, tmp_path / name)
    one, two = (load_model(tmp_path / name)[0].state_dict() for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], atol=1e-6, rtol=0)
    asked = ("The statement", "--max-tokens", "8", "--temperature", "0")
    assert gptctl("generate", "tuned/adapter", *asked).out == gptctl("generate", "one", *asked).out


@pytest.mark.parametrize(
    ("name", "changes", "settings", "words"),
    [
        ("test-gpt3", {}, {}, "GPTNeoForCausalLM has no place for blocks.0.attention.query.bias"),
        ("test-modern", {"logit_softcap": 15.0}, {}, "Qwen3ForCausalLM has no logit_softcap = 15.0"),
        ("test-vaswani", {}, {"format": "gguf"}, "no architecture for OpenAIGPTLMHeadModel"),
        ("test-gpt2", {}, {"dtype": "q8_0"}, "--format hf has no --dtype q8_0"),
        ("test-gpt2", {}, {"format": "gguf", "dtype": "bfloat16"}, "no --dtype bfloat16"),
    ],
)
def test_what_does_not_map_is_refused(
    tmp_path: Path, text: str, name: str, changes: dict[str, Any], settings: dict[str, Any], words: str
) -> None:
    """UsageError (2) with the reason; nothing is left that looks like a model."""
    run_of(tmp_path / "run", name, text, **changes)
    with pytest.raises(UsageError) as caught:
        exported(tmp_path / "run", tmp_path / "out", **settings)
    assert words in caught.value.message
    assert not (tmp_path / "out" / "config.json").exists()
    assert not list(tmp_path.glob("out/*.gguf"))


def test_a_refusal_is_two_lines(gptctl: Command, tmp_path: Path, text: str) -> None:
    """Exit 2, the reason, and what to do."""
    run_of(tmp_path / "run", "test-gpt3", text)
    done = gptctl("export", "run", "-o", "out")
    assert done.code == 2
    assert len(done.error_lines) == 2


def test_classifiers_and_strangers(gptctl: Command, tmp_path: Path, text: str) -> None:
    """A classifier is refused (2), an architecture that gptctl does not know (3), a pickle (3), a missing path (2)."""
    save_model(tmp_path / "labels", Classifier(make("test-gpt2"), 2), text, {})
    with pytest.raises(UsageError, match="is a classifier"):
        exported(tmp_path / "labels", tmp_path / "out")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert", "architectures": ["BertForMaskedLM"]}')
    done = gptctl("export", "bert", "-o", "out")
    assert done.code == 3
    assert "BertForMaskedLM" in done.error_lines[0]
    assert "Qwen3ForCausalLM" in done.error_lines[1]
    (tmp_path / "bert" / "config.json").unlink()
    (tmp_path / "bert" / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(DataError, match="is a pickle"):
        exported(tmp_path / "bert", tmp_path / "out")
    with pytest.raises(UsageError, match="no such model"):
        exported(tmp_path / "nowhere", tmp_path / "out")


def test_dry_run_says_what_and_writes_nothing(tmp_path: Path, text: str) -> None:
    """The class, or the refusal."""
    run_of(tmp_path / "run", "test-moe", text)
    config = export.Export(model=str(tmp_path / "run"), out=str(tmp_path / "out"))
    assert export.plan(config, Context()).plan["class"] == "MixtralForCausalLM"
    assert not (tmp_path / "out").exists()
    run_of(tmp_path / "soft", "test-moe", text, logit_softcap=5.0)
    with pytest.raises(UsageError, match="logit_softcap"):
        export.plan(config.model_copy(update={"model": str(tmp_path / "soft")}), Context())


@pytest.mark.slow
def test_killed_anywhere_it_is_done_by_the_next_command(gptctl: Command, tmp_path: Path, text: str) -> None:
    """kill -9 at every file operation; the second run gives the bytes of an undisturbed one."""
    run_of(tmp_path / "run", "test-gpt2", text)
    exported(tmp_path / "run", tmp_path / "whole")
    number, killed = 1, 1
    while killed:
        killed = gptctl("export", "run", "-o", f"out-{number}", fault=f"kill:{number}").code
        exported(tmp_path / "run", tmp_path / f"out-{number}")
        assert tree_bytes(tmp_path / f"out-{number}") == tree_bytes(tmp_path / "whole")
        number += 3
    assert number > 10
