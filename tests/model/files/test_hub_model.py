"""Which files of a model on the hub are downloaded: what the model needs, and neither pickles nor code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gptctl.core.errors import DataError, GptctlError
from gptctl.io.hub.uri import HubUri
from gptctl.model.files.hub_model import base_in_cache, fetch_model
from tests.hub_server import Hub, serve, use

COMMON = {
    "README.md": b"# A model\n",
    "config.json": b"{}",
    "tokenizer.json": b"{}",
    "tokenizer_config.json": b"{}",
    "chat_template.jinja": b"",
    "modeling_own.py": b"import os\n",
    "pytorch_model.bin": b"pickle",
    "onnx/model.safetensors": b"other",
    "consolidated.safetensors": b"the same again",
}
NEEDED = {"chat_template.jinja", "config.json", "tokenizer.json", "tokenizer_config.json"}
INDEX = json.dumps({"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}).encode()
PARTS = {"model-1-of-2.safetensors": b"a", "model-2-of-2.safetensors": b"b", "model.safetensors.index.json": INDEX}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve() as found:
        use(found, tmp_path / "home", monkeypatch)
        yield found


def fetched(uri: str) -> set[str]:
    """Return the names of the files that the folder of a model has."""
    told: list[str] = []
    folder = fetch_model(HubUri.parse(uri), told.append)
    assert told and all("downloading" in line for line in told)
    return {path.name for path in folder.iterdir()} - {"README.md"}


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"model.safetensors": b"w"}, {"model.safetensors"}),
        ({"model.safetensors": b"w", "model.fp16.safetensors": b"w"}, {"model.safetensors"}),
        (PARTS, set(PARTS)),
        ({"shard-1.safetensors": b"w", "shard-2.safetensors": b"w"}, {"shard-1.safetensors", "shard-2.safetensors"}),
    ],
    ids=["one file", "two precisions", "several files", "a file per rank"],
)
def test_only_what_is_needed(hub: Hub, weights: dict[str, bytes], expected: set[str]) -> None:
    hub.model("ann/gpt", COMMON | weights)
    assert fetched("hf://ann/gpt") == NEEDED | expected
    hub.model("ann/inner", {f"best/{name}": data for name, data in (COMMON | weights).items()})
    assert fetched("hf://ann/inner/best") == NEEDED | expected


def test_a_run(hub: Hub) -> None:
    """A run folder has its model in model/, as on this machine."""
    files = {"run.json": b"{}", "checkpoints/step-1/model.safetensors": b"w"}
    hub.model("ann/run", files | {"model/config.json": b"{}", "model/model.safetensors": b"w"})
    assert fetched("hf://ann/run") == {"config.json", "model.safetensors"}


def test_an_adapter(hub: Hub) -> None:
    files = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"w", "optimizer.pt": b"pickle"}
    hub.model("ann/adapter", files | {"tokenizer.json": b"{}"})
    assert fetched("hf://ann/adapter") == {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"}


def test_the_files_of_its_manifest(hub: Hub) -> None:
    """A model folder of gptctl is complete with all files that its manifest lists, whatever their names."""
    listed = json.dumps({"kind": "model", "files": [{"path": "model.safetensors"}, {"path": "more.json"}]}).encode()
    hub.model("ann/own", {"config.json": b"{}", "model.safetensors": b"w", "more.json": b"1", "manifest.json": listed})
    assert fetched("hf://ann/own") == {"config.json", "model.safetensors", "more.json", "manifest.json"}


@pytest.mark.parametrize(
    ("uri", "code", "message"),
    [
        ("hf://ann/pickle", 3, "has its weights only as pickles: pytorch_model.bin"),
        ("hf://ann/nothing", 3, "has no model: it has README.md, model.gguf"),
        ("hf://ann/broken", 3, "model.safetensors.index.json is damaged"),
        ("hf://ann/pickle/inner", 2, "no such folder: hf://ann/pickle@"),
        ("hf://datasets/ann/pickle", 2, "is a dataset, not a model"),
    ],
)
def test_what_is_no_model(hub: Hub, uri: str, code: int, message: str) -> None:
    hub.model("ann/pickle", {"config.json": b"{}", "pytorch_model.bin": b"pickle"})
    hub.model("ann/nothing", {"README.md": b"", "model.gguf": b"GGUF"})
    hub.model("ann/broken", {"config.json": b"{}", "model.safetensors.index.json": b"[]"})
    with pytest.raises(GptctlError, match=message) as error:
        fetch_model(HubUri.parse(uri), print)
    assert error.value.exit_code == code
    assert not any(path.endswith((".bin", ".gguf")) for path in hub.downloads())


def test_a_base_is_never_downloaded(hub: Hub, tmp_path: Path) -> None:
    """The base that an adapter names is looked up in the cache. It is no argument of the command."""
    from gptctl.model.files.locate import adapter_base

    commit = hub.model("ann/gpt", COMMON | {"model.safetensors": b"w"}).branches["main"]
    values = {"base_model_name_or_path": "ann/gpt", "revision": commit}
    (tmp_path / "adapter_config.json").write_text(json.dumps(values))
    with pytest.raises(DataError, match="is not on this machine: ann/gpt") as error:
        adapter_base(tmp_path)
    assert error.value.hint == f"download it: gptctl inspect hf://ann/gpt@{commit}"
    assert base_in_cache("../x", "main") is None
    assert hub.requests == []
    folder = fetch_model(HubUri.parse("hf://ann/gpt"), print)
    asked = len(hub.requests)
    assert adapter_base(tmp_path) == folder
    assert len(hub.requests) == asked
