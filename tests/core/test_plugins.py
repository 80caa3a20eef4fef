"""Plug-ins: files, entry points of installed packages, and the contracts that they are checked against."""

import importlib
import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from gptctl.core import plugins
from gptctl.core.errors import UsageError
from tests.conftest import REPO, Ran, plain_environment, run_gptctl, write_jsonl

CAPITALS = '''"""Drop documents that are written in capitals."""

import numpy as np
import pyarrow.compute as pc

from gptctl.core.config import Settings, key
from gptctl.text.filters import DocumentBatch, FilterResult, Rule


class Config(Settings):
    """How many capitals a document may have."""

    max_capital_share: float = key(0.5, "Largest share of letters that are capitals.", ge=0, le=1)


def rules(config):
    return (Rule("max_capital_share", "share of capitals", config.max_capital_share),)


def measure(batch, config):
    capitals = pc.count_substring_regex(batch.text, r"\\\\p{Lu}").to_numpy(zero_copy_only=False)
    letters = pc.count_substring_regex(batch.text, r"\\\\p{L}").to_numpy(zero_copy_only=False)
    return FilterResult((capitals / np.maximum(letters, 1)).reshape(-1, 1))
'''.replace("\\\\", "\\")
KAPPA = '''"""A metric that is one number of the confusion matrix."""

PREDICTION_TYPES = ("labels",)


def compute(counts):
    return counts.tp.sum(axis=-1) / counts.support.sum(axis=-1)
'''


@pytest.mark.parametrize("package", sorted(plugins.KINDS.values()))
def test_what_is_built_in_meets_its_contract(package: str) -> None:
    names = plugins.built_in(package)
    assert names
    for name in names:
        assert plugins.problems(package, plugins.load(package, name)) == ""


def test_a_file_is_known_by_what_it_holds(tmp_path: Path, fresh: None) -> None:
    (tmp_path / "capitals.py").write_text(CAPITALS)
    (tmp_path / "hits.py").write_text(KAPPA)
    assert plugins.add_file(tmp_path / "capitals.py").package == "gptctl.text.filters"
    assert plugins.add_file(tmp_path / "hits.py").package == "gptctl.evals.metrics"
    assert "capitals" in plugins.names("gptctl.text.filters")
    assert plugins.load("gptctl.text.filters", "capitals").Config().max_capital_share == 0.5
    assert set(plugins.record()) >= {"gptctl.text.filters.capitals", "gptctl.evals.metrics.hits"}


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("capitals", CAPITALS.replace("def measure", "def size"), r"for a filter it lacks measure\(batch, config\)"),
        ("capitals", CAPITALS.replace("def rules(config)", "def rules()"), r"rules\(config\) \(it takes \(\)\)"),
        ("length", CAPITALS, "'length' is a built-in filter"),
        ("broken", "import nowhere_at_all", "cannot be imported: ModuleNotFoundError"),
        ("empty", "", "is of no known kind"),
        ("leaves", "import sys\nsys.exit(3)", "cannot be imported: SystemExit: 3"),
        ("plain", CAPITALS.replace("(Settings)", ""), "lacks Config .a subclass of gptctl.core.config.Settings"),
        ("wrong", CAPITALS.replace("key(0.5", "key(1.5"), "lacks Config with valid defaults .*less than or equal to 1"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, fresh: None, name: str, code: str, said: str) -> None:
    (tmp_path / f"{name}.py").write_text(code)
    with pytest.raises(UsageError, match=said):
        plugins.add_file(tmp_path / f"{name}.py")
    assert name in plugins.built_in("gptctl.text.filters") or name not in plugins.names("gptctl.text.filters")


def test_what_a_plugin_prints_when_imported_is_on_standard_error(
    tmp_path: Path, fresh: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "capitals.py").write_text(CAPITALS + "\nprint('hello')\n")
    plugins.add_file(tmp_path / "capitals.py")
    assert capsys.readouterr() == ("", "hello\n")


def test_the_hash_of_a_package_covers_all_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "gptctl_plugin_with_helper"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "helper.py").write_text("limit = 1\n")
    (folder / "rules.py").write_text("from gptctl_plugin_with_helper.helper import limit\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("gptctl_plugin_with_helper.rules")
    before = plugins.package_digest("gptctl_plugin_with_helper.rules")
    assert before == plugins.package_digest("gptctl_plugin_with_helper.rules")
    (folder / "helper.py").write_text("limit = 2\n")
    assert before != plugins.package_digest("gptctl_plugin_with_helper.rules")


def test_no_such_file_and_two_of_one_name(tmp_path: Path, fresh: None) -> None:
    with pytest.raises(UsageError, match=r"no such file: .*absent.py"):
        plugins.add_file(tmp_path / "absent.py")
    with pytest.raises(UsageError, match="no such file: capitals") as absent:
        plugins.add_file("capitals")
    assert absent.value.hint == "an installed plug-in needs no --plugin"
    (tmp_path / "capitals.txt").write_text(CAPITALS)
    with pytest.raises(UsageError, match="is not a Python file"):
        plugins.add_file(tmp_path / "capitals.txt")
    (tmp_path / "other").mkdir()
    for folder in (tmp_path, tmp_path / "other"):
        (folder / "capitals.py").write_text(CAPITALS)
    plugins.add_file(tmp_path / "capitals.py")
    with pytest.raises(UsageError, match="two plug-ins are called 'capitals'"):
        plugins.add_file(tmp_path / "other" / "capitals.py")


@pytest.mark.slow
def test_a_process_that_unpickles_a_carried_function_knows_the_files(tmp_path: Path, fresh: None) -> None:
    (tmp_path / "capitals.py").write_text(CAPITALS)
    plugins.add_file(tmp_path / "capitals.py")
    config = plugins.load("gptctl.text.filters", "capitals").Config(max_capital_share=0.25)
    sent = pickle.dumps(plugins.carried(partial(getattr, config, "max_capital_share")))
    code = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read())())"
    done = subprocess.run(
        [sys.executable, "-c", code], input=sent, capture_output=True, env=plain_environment(), check=True
    )
    assert done.stdout.strip() == b"0.25"
    (tmp_path / "capitals.py").write_text(CAPITALS + "\n# changed\n")
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, env=plain_environment())
    assert b"has changed since the command began" in done.stderr


@pytest.mark.slow
def test_a_package_of_its_own_works_from_the_command_line_and_in_workers(tmp_path: Path) -> None:
    package = tmp_path / "package"
    (package / "shouting").mkdir(parents=True)
    (package / "shouting" / "__init__.py").write_text("")
    (package / "shouting" / "capitals.py").write_text(CAPITALS)
    (package / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "shouting"\nversion = "1.0"\n'
        '[project.entry-points."gptctl.filters"]\ncapitals = "shouting.capitals"\n'
    )
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-build-isolation", "--no-deps"]
    subprocess.run([*command, "--target", str(site), str(package)], check=True, capture_output=True)
    rows = [
        {"id": f"d{n}", "text": text * 400} for n, text in enumerate(["quiet words here ", "LOUD WORDS HERE "] * 200)
    ]
    write_jsonl(tmp_path / "raw.jsonl", rows)
    path = f"{site}:{REPO}"
    for workers in ("1", "2"):
        done = run_gptctl(
            "clean", "raw.jsonl", "-o", f"out{workers}", "--filters", "capitals", "--workers", workers, "--json",
            cwd=tmp_path, PYTHONPATH=path,
        )  # fmt: skip
        assert done.code == 0, done.err
        assert done.json["counts"]["dropped"] == {"capitals.max_capital_share": 200}
    done = run_gptctl(
        "clean", "raw.jsonl", "-o", "mild", "--filters", "capitals", "--set", "capitals.max_capital_share=1", "--json",
        cwd=tmp_path, PYTHONPATH=path,
    )  # fmt: skip
    assert done.json["counts"]["kept"] == 400, done.err
    recorded = (tmp_path / "out2" / "run.json").read_text()
    assert '"shouting 1.0"' in recorded
    unknown = run_gptctl("clean", "raw.jsonl", "-o", "x", "--filters", "capitols", cwd=tmp_path, PYTHONPATH=path)
    assert unknown.code == 2 and "did you mean 'capitals'?" in unknown.err


@pytest.mark.parametrize("how", ["flag", "file", "environment"])
def test_a_file_from_the_command_line_a_config_file_and_the_environment(tmp_path: Path, how: str) -> None:
    (tmp_path / "capitals.py").write_text(CAPITALS)
    write_jsonl(tmp_path / "raw.jsonl", [{"id": "a", "text": "quiet words"}, {"id": "b", "text": "LOUD WORDS"}])
    (tmp_path / "own.toml").write_text('plugins = ["capitals.py"]\n[clean.capitals]\nmax_capital_share = 0.4\n')
    args = {"flag": ["--plugin", "capitals.py"], "file": ["--config", "own.toml"], "environment": []}[how]
    environment = {"GPTCTL_PLUGINS": "capitals.py"} if how == "environment" else {}
    command = ["clean", "raw.jsonl", "-o", "out", "--filters", "capitals", *args]
    done = run_gptctl(*command, "--json", cwd=tmp_path, **environment)
    assert done.code == 0, done.err
    assert done.json["counts"]["dropped"] == {"capitals.max_capital_share": 1}
    assert run_gptctl(*command, "--json", cwd=tmp_path, **environment).json["status"] == "up to date"
    (tmp_path / "capitals.py").write_text(CAPITALS + "\n# changed\n")
    changed = run_gptctl(*command, cwd=tmp_path, **environment)
    assert changed.code == 5 and "plug-in capitals has changed since out was made" in changed.err


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "    return FilterResult",
            "    raise ValueError('oh no')  # ",
            "capitals.py failed in measure, line 23: ValueError: oh no",
        ),
        (
            ".reshape(-1, 1)",
            "",
            "plug-in capitals: measure returned figures of shape (2,), expected (2, 1): one row per",
        ),
        ("return FilterResult", "return ", "plug-in capitals: measure returned ndarray, expected FilterResult"),
        ("return (Rule(", "return list((", "plug-in capitals: rules returned no tuple of Rule"),
        (
            "max_capital_share)",
            "max_capital_share, 'over')",
            "failed in rules, line 17: ValueError: drop_if is 'above' or",
        ),
    ],
)
def test_a_filter_that_fails_is_named_with_its_line(
    gptctl: Callable[..., Ran], tmp_path: Path, fresh: None, old: str, new: str, said: str
) -> None:
    assert old in CAPITALS
    head, _, tail = CAPITALS.rpartition(old)
    (tmp_path / "capitals.py").write_text(f"{head}{new}{tail}")
    write_jsonl(tmp_path / "raw.jsonl", [{"id": "a", "text": "quiet words"}, {"id": "b", "text": "LOUD WORDS"}])
    done = gptctl("clean", "raw.jsonl", "-o", "out", "--filters", "capitals", "--plugin", "capitals.py")
    assert done.code == 2 and said in done.err, done.err
    assert "internal error" not in done.err


@pytest.mark.parametrize(("name", "what"), [("workers", "an option of clean"), ("settings", "a reserved name")])
def test_a_filter_with_the_name_of_an_option_is_refused(
    gptctl: Callable[..., Ran], tmp_path: Path, fresh: None, name: str, what: str
) -> None:
    (tmp_path / f"{name}.py").write_text(CAPITALS)
    done = gptctl("clean", "raw.jsonl", "-o", "out", "--filters", name, "--plugin", f"{name}.py")
    assert done.code == 2 and f"a plug-in cannot be called '{name}': it is {what}" in done.err, done.err


def test_a_plugin_of_the_command_line_that_is_not_used(gptctl: Callable[..., Ran], tmp_path: Path, fresh: None) -> None:
    (tmp_path / "capitals.py").write_text(CAPITALS)
    write_jsonl(tmp_path / "raw.jsonl", [{"id": "a", "text": "quiet words"}])
    for command, hint in (("clean", "add it to --filters"), ("dedup", "dedup uses no filter: omit --plugin")):
        done = gptctl(command, "raw.jsonl", "-o", "out", "--plugin", "capitals.py")
        assert done.code == 2 and "plug-in capitals is loaded but not used" in done.err and hint in done.err
        assert gptctl(command, "raw.jsonl", "-o", command, GPTCTL_PLUGINS="capitals.py").code == 0


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget plug-in files afterwards."""
    monkeypatch.setattr(plugins, "_files", {})
    monkeypatch.setattr(plugins, "_origins", {})
    monkeypatch.setattr(plugins, "_used", set())
