"""Every command with every kind of folder: what is refused says what the folder is, and how to get what is needed."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gptctl
from gptctl.core.context import Context
from gptctl.core.errors import GptctlError
from gptctl.io.recognize import recognize
from gptctl.reporting.contents import read_content
from gptctl.stages.inspect import Inspect
from gptctl.stages.inspect import run as inspect
from tests.conftest import documents, run_gptctl, write_jsonl

MODELS = {"run", "model", "checkpoint", "stopped", "export", "adapter"}
OUTPUTS = {"documents", "tokens", "run", "stopped", "export", "samples", "predictions", "unfinished"}
TEXTS = {"texts", "documents", "arrow"}
# What each command takes. The other kinds are refused.
COMMANDS: dict[str, tuple[set[str], Callable[[str, str], Any]]] = {
    "clean": (TEXTS, lambda path, out: gptctl.clean(path, out=out, dry_run=True)),
    "dedup": (TEXTS, lambda path, out: gptctl.dedup(path, out=out, dry_run=True)),
    "against": (TEXTS, lambda path, out: gptctl.dedup("texts", against=[path], out=out, dry_run=True)),
    "tokenize": (TEXTS, lambda path, out: gptctl.tokenize(path, out=out, dry_run=True)),
    "pretrain": ({"tokens"}, lambda path, out: gptctl.pretrain(path, out=out, preset="test-gpt2", dry_run=True)),
    "finetune": (MODELS, lambda path, out: gptctl.finetune(path, "labelled", out=out, dry_run=True)),
    "data": (TEXTS, lambda path, out: gptctl.finetune("run", path, out=out, task="lm", dry_run=True)),
    "generate": (MODELS, lambda path, out: gptctl.generate(path, "The", dry_run=True)),
    "eval": (MODELS, lambda path, out: gptctl.evaluate(path, "labelled", dry_run=True)),
    "predictions": ({"predictions"}, lambda path, out: gptctl.evaluate(predictions=path)),
    "export": (MODELS, lambda path, out: gptctl.export(path, out=out, dry_run=True)),
    "split": (TEXTS, lambda path, out: gptctl.split(path, out=out, dry_run=True)),
    "report": (OUTPUTS, lambda path, out: gptctl.report(path, out=out, dry_run=True)),
    "load": (MODELS | {"documents", "tokens", "samples", "predictions"}, lambda path, out: gptctl.load(path)),
}
# How an error names each kind.
NAMED = {
    "texts": "files",
    "documents": "documents",
    "arrow": "files",
    "tokens": "tokens",
    "run": "a trained model",
    "model": "a model",
    "checkpoint": "a checkpoint",
    "stopped": "an unfinished output of gptctl pretrain",
    "export": "an exported model",
    "adapter": "an adapter",
    "samples": "generated samples",
    "predictions": "predictions",
    "unfinished": "an unfinished output of gptctl clean",
    "damaged": "a damaged output of gptctl",
    "datasets": "a dataset that Hugging Face's datasets saved",
    "report.html": "a page of gptctl report",
    "model.gguf": "a GGUF file",
    "empty": "no(thing| file)",
}
OURS = set(NAMED) - {"texts", "arrow", "damaged", "datasets", "model.gguf", "empty"}


@pytest.fixture(scope="module")
def kinds(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with one of each kind."""
    folder = tmp_path_factory.mktemp("kinds")
    for name, source in {"documents": "unique", "tokens": "tokens", "run": "run", "labelled": "labelled"}.items():
        shutil.copytree(workspace / source, folder / name)
    for name, source in {"texts": "pages", "model": "run/model", "arrow": "clean/shards"}.items():
        shutil.copytree(workspace / source, folder / name)
    for name in ("unfinished", "damaged"):
        shutil.copytree(workspace / "clean", folder / name)
        (folder / name / "manifest.json").unlink()
    (folder / "damaged" / "run.json").unlink()
    (folder / "damaged" / ".lock").touch()
    shutil.copytree(workspace / "run", folder / "stopped")
    (folder / "stopped" / "manifest.json").unlink()
    shutil.rmtree(folder / "stopped" / "model")
    newest = max((folder / "run" / "checkpoints").glob("step-*"))
    shutil.copytree(newest, folder / "checkpoints" / "checkpoint")
    (folder / "checkpoint").symlink_to(folder / "checkpoints" / "checkpoint")
    (folder / "datasets").mkdir()
    for name in ("dataset_info.json", "state.json"):
        (folder / "datasets" / name).write_text("{}")
    (folder / "model.gguf").write_bytes(b"GGUF")
    (folder / "empty").mkdir()
    for command in (
        "finetune run documents -o lora --task lm --lora 2 --epochs 0.1",
        "eval run labelled/test.jsonl -o predictions",
        "generate run --prompts labelled/test.jsonl -o samples --max-tokens 1 --limit 2",
        "export run -o export",
        "report run -o report.html",
    ):
        done = run_gptctl(*command.split(), cwd=folder)
        assert done.code == 0, done.err
    (folder / "adapter").symlink_to(folder / "lora" / "adapter")
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_kind_is_named(command: str, kinds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(kinds)
    taken, call = COMMANDS[command]
    for kind, name in NAMED.items():
        if kind in taken:
            call(kind, str(tmp_path / "out"))
            continue
        if kind == "tokens" and command == "data":
            continue
        with pytest.raises(GptctlError) as caught:
            call(kind, str(tmp_path / "out"))
        error = caught.value
        assert error.exit_code == 3, (kind, error.message)
        assert re.match(rf"{kind} (is|holds) {name}", error.message), (kind, error.message)
        assert "gptctl" in (error.hint or "") or kind in ("empty", "damaged", "model.gguf"), (kind, error.hint)
    assert not (tmp_path / "out").exists()


def test_unfinished_outputs_are_continued(kinds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint is the command line that made it."""
    monkeypatch.chdir(kinds)
    with pytest.raises(GptctlError) as caught:
        gptctl.dedup("unfinished", out=tmp_path / "out", dry_run=True)
    assert caught.value.hint == "run it again to go on: gptctl clean raw.jsonl -o clean"


def test_inspect_opens_all_of_them(kinds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And every file in them, except those that keep no data."""
    monkeypatch.chdir(kinds)
    for kind in OURS:
        assert inspect(Inspect(path=kind), Context()).metrics[
            "stage" if kind in ("stopped", "unfinished") else "kind"
        ], kind
    files = [path for kind in OURS for path in Path(kind).rglob("*") if path.is_file() and path.name != ".lock"]
    assert {path.suffix for path in files} >= {".arrow", ".json", ".jsonl", ".toml", ".safetensors", ".svg", ".md"}
    for path in files:
        facts, _ = read_content(str(path), 2)
        assert facts, path


def test_inspect_names_what_it_does_not_open(kinds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(kinds)
    for kind, said in (("texts", "holds files"), ("datasets", "Hugging Face"), ("empty", "holds nothing")):
        with pytest.raises(GptctlError, match=said):
            inspect(Inspect(path=kind), Context())


def test_rejects_and_quarantine(tmp_path: Path) -> None:
    """The summary of clean says where they are, and inspect opens both."""
    rows = [*documents(30), {"id": "short", "text": "tiny"}]
    raw = write_jsonl(tmp_path / "raw.jsonl", rows)
    raw.write_text(raw.read_text() + "not JSON\n")
    done = run_gptctl("clean", "raw.jsonl", "-o", "clean", "--keep-rejects", "--set", "max_bad=0.5", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "gptctl inspect clean/rejects" in done.err
    assert "gptctl inspect clean/quarantine.jsonl" in done.err
    facts, found = read_content(str(tmp_path / "clean" / "rejects"), None)
    assert (facts["rows"], found[0]["reason"]) == (1, "length.min_chars")
    facts, found = read_content(str(tmp_path / "clean" / "quarantine.jsonl"), None)
    assert facts["rows"] == 1 and "raw.jsonl" in found[0].values()
    assert str(tmp_path / "clean" / "rejects") in read_content(str(tmp_path / "clean"), 1)[0]["see also"]


def test_a_stopped_run_is_its_newest_checkpoint(kinds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(kinds)
    for command in (
        "generate stopped The --max-tokens 1",
        "eval stopped labelled/test.jsonl",
        "export stopped -o exported",
    ):
        done = run_gptctl(*command.split(), cwd=kinds)
        assert done.code == 0, done.err
        assert "stopped is not finished: its newest checkpoint is used, step-000020" in done.err
    assert recognize("stopped").kind == "unfinished"
    done = run_gptctl("export", "stopped/adapter", "-o", "other", cwd=kinds)
    assert done.code == 2
    assert "stopped is not finished and has no adapter yet\nhint: name stopped: its newest" in done.err
