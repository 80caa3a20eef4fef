"""The commands as Python functions: the same settings, files and errors as on the command line."""

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import gptctl
from tests.conftest import REPO, Ran, documents, plain_environment, tree_bytes, write_jsonl

FUNCTIONS = ["clean", "dedup", "split", "tokenize", "pretrain", "finetune", "evaluate", "generate", "export", "report"]


def test_importing_gptctl_loads_neither_torch_nor_pyarrow() -> None:
    code = (
        "import gptctl, sys; print(sorted({'torch', 'pyarrow', 'pydantic', 'numpy'} & set(sys.modules)), dir(gptctl))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=plain_environment(), capture_output=True, text=True)
    assert done.stdout.startswith("[] "), done.stdout + done.stderr
    assert all(name in done.stdout for name in (*FUNCTIONS, "load", "GptctlError"))


def test_clean_equals_the_command_line(gptctl: Callable[..., Ran], tmp_path: Path) -> None:
    write_jsonl(tmp_path / "raw.jsonl", [*documents(30), {"id": "short", "text": "tiny"}])
    result = clean(tmp_path / "raw.jsonl", out=tmp_path / "python", workers=1)
    assert (result.counts.documents_in, dict(result.counts.dropped)) == (31, {"length.min_chars": 1})
    assert result.status == "done" and result.outputs == (str(tmp_path / "python"),)
    assert gptctl("clean", "raw.jsonl", "-o", "shell").code == 0
    assert tree_bytes(tmp_path / "python") == tree_bytes(tmp_path / "shell")
    assert clean([str(tmp_path / "raw.jsonl")], out=str(tmp_path / "python"), workers=1).status == "up to date"


def test_tables_short_forms_and_config_files(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "raw.jsonl", documents(10))
    plan = clean(tmp_path / "raw.jsonl", out=tmp_path / "a", length={"min_chars": 10_000}, dry_run=True, workers=1)
    assert plan.status == "planned" and plan.plan is not None and not (tmp_path / "a").exists()
    english = clean(tmp_path / "raw.jsonl", out=tmp_path / "b", language="de", workers=1)
    assert english.counts.kept == 0
    (tmp_path / "own.toml").write_text("[clean.length]\nmin_chars = 10000\n")
    assert clean(tmp_path / "raw.jsonl", out=tmp_path / "c", config=tmp_path / "own.toml", workers=1).counts.kept == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ({"out": "x"}, 2, "inputs"),
        ({"inputs": "raw.jsonl", "out": "x", "presett": "web"}, 2, "presett"),
        ({"inputs": "raw.jsonl", "out": "x", "preset": "wbe"}, 2, "did you mean 'web'?"),
        ({"inputs": "raw.jsonl", "out": "x", "workers": "many"}, 2, "workers takes a whole number .*, not 'many'"),
        ({"inputs": "absent.jsonl", "out": "x"}, 2, "absent.jsonl"),
        ({"inputs": "raw.jsonl", "out": "-"}, 2, "pipe"),
    ],
)
def test_every_error_is_a_gptctl_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, str], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "raw.jsonl", documents(5))
    with pytest.raises(gptctl.GptctlError, match=said) as caught:
        gptctl.clean(**arguments)
    assert caught.value.exit_code == code and not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("function", "arguments", "message", "hint"),
    [
        ("clean", {"inputs": "raw.jsonl"}, "out is missing", "name the folder to write"),
        ("clean", {"inputs": "absent.jsonl", "out": "x"}, "no such file or folder: absent.jsonl", "check the path"),
        ("clean", {"inputs": "raw.jsonl", "out": "x", "preset": "wbe"}, None, "see help(gptctl.clean)"),
        ("clean", {"inputs": "raw.jsonl", "out": "x", "text_column": "body"}, None, "name the column that holds the text with text_column"),
        ("tokenize", {"inputs": "raw.jsonl", "out": "x", "val": 0.6, "test": 0.6}, "val=0.6 and test=0.6 leave nothing to train on", None),
        ("pretrain", {"out": "x"}, "tokens is missing", "see help(gptctl.pretrain)"),
        ("pretrain", {"tokens": "t", "size": "1M", "preset": "gpt2"}, "size and preset both choose the model: give one of them", None),
        ("finetune", {"base": "absent", "data": "d", "out": "x"}, None, "base is a run folder, one of its checkpoints, a model folder, an adapter's, or hf://OWNER/NAME"),
        ("evaluate", {"model": "m"}, "name either data or harness", "see help(gptctl.evaluate)"),
        ("evaluate", {"predictions": "p", "average": "binary"}, "average='binary' needs positive LABEL", None),
        ("generate", {"model": "m", "prompt": "a", "prompts": "b"}, "prompt and prompts are both given", None),
    ],
)  # fmt: skip
def test_errors_name_arguments_not_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, arguments: dict[str, str], message: str, hint: str
) -> None:
    """What the command line calls --text-column, -o and TOKENS is text_column, out and tokens here."""
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "raw.jsonl", documents(5))
    with pytest.raises(gptctl.GptctlError) as caught:
        getattr(gptctl, function)(**arguments)
    said = caught.value
    assert str(said) == said.message
    assert message is None or said.message == message
    assert hint is None or said.hint == hint
    assert not re.search(r"(^| )-", f"{said.message} {said.hint}")


def test_a_missed_gate_raises_and_keeps_the_result(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "p.jsonl", [{"label": "a", "pred": "a"}, {"label": "b", "pred": "a"}] * 4)
    with pytest.raises(gptctl.GptctlError, match="f1") as caught:
        gptctl.evaluate(predictions=tmp_path / "p.jsonl", fail_under=["f1=0.9"])
    assert caught.value.exit_code == 7
    assert caught.value.summary.metrics["accuracy"] == 0.5


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signature_help_and_stub_agree(name: str) -> None:
    function = getattr(gptctl, name)
    assert inspect.isfunction(function) and function.__name__ == name
    parameters = inspect.signature(function).parameters
    assert {"config", "dry_run", "force", "quiet"} <= set(parameters)
    assert all(parameter.annotation is not inspect.Parameter.empty for parameter in parameters.values())
    assert all(f"\n{key}\n" in function.__doc__ for key in parameters)
    assert max(map(len, str(inspect.signature(function)).splitlines())) < 120  # as help() shows it


def test_results_show_in_notebooks(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "raw.jsonl", [*documents(10), {"id": "<b>", "text": "x"}])
    html = clean(tmp_path / "raw.jsonl", out=tmp_path / "<i>out", workers=1)._repr_html_()
    assert "<table" in html and "length.min_chars" in html and "&lt;i&gt;out" in html and "<i>out" not in html


@pytest.mark.slow
def test_progress_shows_in_a_notebook(tmp_path: Path) -> None:
    """A real kernel runs the cell, and its display is updated in place."""
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    write_jsonl(tmp_path / "raw.jsonl", documents(200, words=400))
    cell = 'import gptctl\nresult = gptctl.clean("raw.jsonl", out="out", workers=1)\nresult'
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    client.NotebookClient(book, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute(
        env=plain_environment()
    )
    outputs = book.cells[0].outputs
    assert any("text/html" in output.get("data", {}) and "<table" in output["data"]["text/html"] for output in outputs)
    assert any(output.get("name") == "stderr" or output["output_type"] == "display_data" for output in outputs)


@pytest.mark.slow
def test_a_script_without_a_main_guard_can_use_workers(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "raw.jsonl", documents(400, words=1200))
    (tmp_path / "script.py").write_text(
        'print("once")\nimport gptctl\nresult = gptctl.clean("raw.jsonl", out="out", workers=2, quiet=True)\n'
        "import json\nprint(json.dumps(result.to_json()))\n"
    )
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=plain_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    once, result = done.stdout.splitlines()
    assert once == "once" and json.loads(result)["counts"]["in"] == 400


def test_the_type_stub_is_that_of_the_code() -> None:
    from tests.docs.stub import stub

    assert (REPO / "gptctl" / "__init__.pyi").read_text(encoding="utf-8") == stub(), (
        "python -m tests.docs.stub > gptctl/__init__.pyi"
    )


def clean(*args: object, **settings: object) -> "gptctl.Summary":
    """Run clean quietly."""
    return gptctl.clean(*args, quiet=True, **settings)
