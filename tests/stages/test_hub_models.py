"""The commands on models of the Hugging Face hub: what a model on this machine gives, at a commit that is recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import gptctl
from gptctl.core.errors import MachineError
from tests.conftest import REPO, documents, run_gptctl, tree_bytes, write_jsonl
from tests.hub_server import TOKEN, Hub, environment, serve


def upload(hub: Hub, folder: Path) -> str:
    """Put a model folder on the hub as ann/gpt, and return the URI of its commit."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    repository = hub.model("ann/gpt", files | {"pytorch_model.bin": b"pickle", "own.py": b"import os\n"})
    return f"hf://ann/gpt@{repository.branches['main']}"


def test_as_on_this_machine(hub: Hub, workspace: Path) -> None:
    """Text and exported files are the same, and run.json names the commit."""
    uri = upload(hub, workspace / "run" / "model")
    model = gptctl.load("hf://ann/gpt", device="cpu")
    local = gptctl.load(workspace / "run", device="cpu")
    assert model.generate("The", max_tokens=8, seed=1) == local.generate("The", max_tokens=8, seed=1)
    for name, source in (("there", "hf://ann/gpt"), ("here", str(workspace / "run" / "model"))):
        gptctl.export(source, out=name, quiet=True)
    assert tree_bytes(Path("there"), "*.safetensors", "*.json") == tree_bytes(Path("here"), "*.safetensors", "*.json")
    assert json.loads(Path("there/run.json").read_text())["sources"] == {"model": [uri]}
    assert not any(path.endswith((".bin", ".py")) for path in hub.downloads())


def test_a_private_model(hub: Hub, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upload(hub, workspace / "run" / "model")
    hub.repositories["models/ann/gpt"].private = True
    with pytest.raises(MachineError, match=r"access denied \(401\): the model ann/gpt"):
        gptctl.load("hf://ann/gpt")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert gptctl.load("hf://ann/gpt", device="cpu").generate("The", max_tokens=1)


def test_a_classifier_of_quality(hub: Hub, tmp_path: Path) -> None:
    """A file of fastText, in a table of the config: the commit is recorded there too."""
    name = "softmax.bin"
    data = (REPO / "tests" / "text" / "word_models" / "models" / name).read_bytes()
    commit = hub.model("ann/quality", {name: data, "README.md": b"# Quality\n"}).branches["main"]
    (tmp_path / name).write_bytes(data)
    write_jsonl(tmp_path / "raw.jsonl", documents(20))
    found = {}
    for out, model in (("there", f"hf://ann/quality/{name}"), ("here", name)):
        table = {"model": model, "threshold": 0.01}
        gptctl.clean("raw.jsonl", out=out, filters=["classifier"], classifier=table, executor="serial", quiet=True)
        found[out] = gptctl.load(out).to_arrow()
    assert found["there"].equals(found["here"])
    recorded = json.loads(Path("there/run.json").read_text())["config"]["classifier"]["model"]
    assert recorded == f"hf://ann/quality@{commit}/{name}"


@pytest.mark.slow
def test_on_the_command_line(workspace: Path, tmp_path: Path) -> None:
    """An adapter of a model on the hub names it as the package peft does, and works when the hub is gone."""
    with serve() as hub:
        uri = upload(hub, workspace / "run" / "model")
        variables = environment(hub, tmp_path / "home")
        labelled = workspace / "labelled"
        arguments = (
            "finetune",
            "hf://ann/gpt",
            labelled,
            "-o",
            "adapted",
            "--task",
            "lm",
            "--epochs",
            "1",
            "--lora",
            "2",
        )
        done = run_gptctl(*arguments, cwd=tmp_path, **variables)
        assert done.code == 0, done.err
        assert "downloading 5 files of" in done.err
        named = json.loads((tmp_path / "adapted" / "adapter" / "adapter_config.json").read_text())
        assert (named["base_model_name_or_path"], named["revision"]) == ("ann/gpt", uri.partition("@")[2])
        drafted = run_gptctl(
            "generate", "hf://ann/gpt", "The", "--draft", "hf://ann/gpt", "--max-tokens", "4", cwd=tmp_path, **variables
        )
        assert drafted.code == 0, drafted.err
        scored = run_gptctl("eval", "hf://ann/gpt", labelled, "-o", "s", cwd=tmp_path, **variables)
        assert scored.code == 0, scored.err
    assert run_gptctl("eval", "adapted/adapter", labelled, cwd=tmp_path, **variables).code == 0
    offline = variables | {"HF_HUB_OFFLINE": "1"}
    assert run_gptctl("inspect", "hf://ann/gpt", cwd=tmp_path, **offline).code == 0
    again = run_gptctl(*arguments, "--json", cwd=tmp_path, **offline)
    assert json.loads(again.out)["status"] == "up to date", again.err
