"""What a command records is what it read: an input that changes or vanishes under way is exit 3, and nothing is sealed."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import gptctl
from gptctl.core.errors import DataError, GptctlError
from gptctl.core.run_folder import Run
from tests.conftest import Ran
from tests.faults.harness import ALONE, expect, start, wait_for

Gptctl = Callable[..., Ran]
Change = Callable[[Path], None]
PLUGIN = """
import numpy as np
from gptctl.core.config import Settings
from gptctl.text.filters import FilterResult, Rule

class Config(Settings):
    "None."

def rules(config):
    return (Rule("none", "nothing", 0.5),)

def measure(batch, config):
    return FilterResult(np.zeros((len(batch), 1)))
"""
SERIAL = {"executor": "serial", "quiet": True}
TINY = {"preset": "test-modern", "steps": 2, "quiet": True}
# What each command reads, by the name of its function: the file that changes, and the arguments.
DATA = {
    "clean documents": ("raw.jsonl", {"inputs": "raw.jsonl", **SERIAL}),
    "clean a dataset": ("clean/manifest.json", {"inputs": "clean", **SERIAL}),
    "clean evaluation": (
        "labelled/test.jsonl",
        {"inputs": "raw.jsonl", "decontaminate": ["labelled/test.jsonl"], **SERIAL},
    ),
    "clean blocklist": (
        "blocked.txt",
        {
            "inputs": "raw.jsonl",
            "filters": ["url_blocklist"],
            "url_blocklist": {"files": ["blocked.txt"], "column": "id"},
            **SERIAL,
        },
    ),
    "clean classifier": (
        "filter/model/classifier.safetensors",
        {"inputs": "raw.jsonl", "filters": ["classifier"], "classifier": {"model": "filter", "label": "odd"}, **SERIAL},
    ),
    "clean plugin": ("mine.py", {"inputs": "raw.jsonl", "filters": ["mine"], "plugins": ["mine.py"], **SERIAL}),
    "dedup documents": ("raw.jsonl", {"inputs": "raw.jsonl", **SERIAL}),
    "dedup against": ("labelled/train.jsonl", {"inputs": "raw.jsonl", "against": ["labelled/train.jsonl"], **SERIAL}),
    "split documents": ("raw.jsonl", {"inputs": "raw.jsonl", **SERIAL}),
    "tokenize documents": ("raw.jsonl", {"inputs": "raw.jsonl", "vocab_size": 300, **SERIAL}),
    "tokenize tokenizer": (
        "tokens/tokenizer.json",
        {"inputs": "raw.jsonl", "tokenizer": "tokens/tokenizer.json", **SERIAL},
    ),
    "evaluate predictions": ("scores.jsonl", {"predictions": "scores.jsonl", "quiet": True}),
    "finetune filter": (
        "labelled/train.jsonl",
        {"base": "none", "data": ["labelled"], "task": "filter", "quiet": True},
    ),
}
MODELS = {
    "export tokens": ("tokens/shards/train", {"model": "tokens", "format": "bin", "quiet": True}),
    "export model": ("run/model/model.safetensors", {"model": "run", "quiet": True}),
    "generate prompts": ("prompts.jsonl", {"model": "run", "prompts": "prompts.jsonl", "max_tokens": 2, "quiet": True}),
    "generate model": (
        "run/model/model.safetensors",
        {"model": "run", "prompts": "prompts.jsonl", "max_tokens": 2, "quiet": True},
    ),
    "evaluate documents": (
        "labelled/test.jsonl",
        {"model": "classifier", "data": "labelled", "cache": "none", "quiet": True},
    ),
    "evaluate model": (
        "classifier/model/model.safetensors",
        {"model": "classifier", "data": "labelled", "cache": "none", "quiet": True},
    ),
    "pretrain tokens": ("tokens/shards/train", {"tokens": ["tokens"], **TINY}),
    "pretrain tokenizer": ("tokens/tokenizer.json", {"tokens": ["tokens"], **TINY}),
    "finetune texts": ("labelled/train.jsonl", {"base": "run", "data": ["labelled"], "epochs": 0.1, "quiet": True}),
    "finetune base": (
        "run/model/model.safetensors",
        {"base": "run", "data": ["labelled"], "epochs": 0.1, "quiet": True},
    ),
    "finetune config": ("run/model/config.json", {"base": "run", "data": ["labelled"], "epochs": 0.1, "quiet": True}),
    "finetune template": (
        "template.jinja",
        {
            "base": "run",
            "data": ["chat.jsonl"],
            "task": "chat",
            "chat_template": "template.jinja",
            "epochs": 0.1,
            "quiet": True,
        },
    ),
}


def replaced(path: Path) -> None:
    """Write another file of the same name, as editors do."""
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data.replace(b"the", b"ThE") + b"\n")


def edited(path: Path) -> None:
    """Change a letter in place, and set the time back: size and time of the file are the same."""
    before, data = path.stat(), bytearray(path.read_bytes())
    data[data.rfind(b"e")] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def cut(path: Path) -> None:
    """Take the second half away."""
    os.truncate(path, path.stat().st_size // 2)


def gone(path: Path) -> None:
    """Delete the file."""
    path.unlink()


def once(monkeypatch: pytest.MonkeyPatch, moment: str, change: Callable[[], None]) -> None:
    """Do something once, before a run saves its record at its start, or before it looks at its inputs at its end."""
    original, done = getattr(Run, moment), []

    def wrapped(run: Run) -> Any:
        if not done:
            done.append(True)
            change()
        return original(run)

    monkeypatch.setattr(Run, moment, wrapped)


@pytest.fixture
def inputs(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of all that the commands read."""
    for name in ("raw.jsonl", "clean", "labelled", "prompts.jsonl", "tokens", "run", "classifier"):
        source = workspace / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    for name, text in {
        "mine.py": PLUGIN,
        "blocked.txt": "example.org\n",
        "scores.jsonl": '{"id": "e", "label": "a", "pred": "a"}\n{"id": "f", "label": "b", "pred": "a"}\n',
        "template.jinja": "{% for one in messages %}{{ one.role }}: {{ one.content }}\n{% endfor %}",
        "chat.jsonl": "".join(
            f'{{"messages": [{{"role": "user", "content": "{n}"}}, {{"role": "assistant", "content": "b"}}]}}\n'
            for n in range(40)
        ),
    }.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(name: str, given: tuple[str, dict[str, Any]], root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change the input of a command in each way and at each moment: the error names it, and nothing is sealed."""
    file, arguments = given
    function = getattr(gptctl, name.split()[0])
    if name == "clean classifier":
        gptctl.finetune("none", ["labelled"], out="filter", task="filter", quiet=True)
    path = next((root / file).glob("*")) if (root / file).is_dir() else root / file
    data, out = path.read_bytes(), root / "out"
    for moment, change in (*(("save", one) for one in (replaced, edited, cut, gone)), ("check_inputs", edited)):
        with monkeypatch.context() as patched:
            once(patched, moment, partial(change, path))
            with pytest.raises(DataError) as caught:
                function(**arguments, out="out")
        assert "changed or vanished" in str(caught.value), (change, caught.value)
        assert not (out / "manifest.json").exists(), change
        path.write_bytes(data)
    function(**arguments, out="out")  # runs anew
    assert (out / "manifest.json").exists()
    edited(path)
    with pytest.raises(GptctlError):
        function(**arguments, out="out")  # not "up to date"


@pytest.mark.parametrize("name", DATA)
def test_data(name: str, inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(name, DATA[name], inputs, monkeypatch)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.slow
def test_models(name: str, inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(name, MODELS[name], inputs, monkeypatch)


@pytest.mark.parametrize("change", [replaced, gone])
@pytest.mark.slow
def test_a_stopped_process(change: Change, workspace: Path, tmp_path: Path, gptctl: Gptctl) -> None:
    """The whole command, whose input changes while it is stopped. The same command then runs anew."""
    source = shutil.copy(workspace / "raw.jsonl", tmp_path / "source.jsonl")
    command = ("clean", "source.jsonl", "-o", "out", "--preset", "none", *ALONE)
    process = start(*command, cwd=tmp_path)
    wait_for(process, lambda: (tmp_path / "out" / "run.json").exists())
    os.kill(process.pid, signal.SIGSTOP)
    change(Path(source))
    os.kill(process.pid, signal.SIGCONT)
    out, err = process.communicate(timeout=120)
    expect(Ran(process.returncode, out, err.decode()), 3, "source.jsonl", "changed or vanished")
    assert not (tmp_path / "out" / "manifest.json").exists()
    shutil.copy(workspace / "raw.jsonl", source)
    assert gptctl(*command).code == 0
