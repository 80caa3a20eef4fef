"""Help: what it shows, what it leaves out, and that it loads little."""

from __future__ import annotations

import subprocess
import sys
import tomllib

import pytest

from gptctl.cli.params import few_choices
from gptctl.cli.stages import config_model, stage_names
from gptctl.core.config import declaration
from tests.conftest import REPO, run_gptctl

NEEDS_ARGUMENTS = [stage for stage in stage_names() if stage != "doctor"]
ASK = """
import sys
from gptctl.__main__ import main
sys.argv = ["gptctl", *sys.argv[1:]]
try:
    main()
except SystemExit as error:
    print(error.code, "torch" in sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize("stage", stage_names())
def test_no_help_imports_torch(stage: str) -> None:
    """In an interpreter of its own: the one that tests fork has imported torch."""
    done = subprocess.run([sys.executable, "-c", ASK, stage, "--help"], capture_output=True, text=True, cwd=REPO)
    assert done.stderr.splitlines()[-1] == "0 False"
    assert f"gptctl {stage}" in done.stdout


@pytest.mark.parametrize("stage", stage_names())
def test_types_and_defaults_as_people_write_them(stage: str) -> None:
    shown = run_gptctl(stage, "--help", COLUMNS="200").out.decode()
    for python in ("<", ">", "(default", "[default: (", "None", "bool"):
        assert python not in shown
    for name, field in config_model(stage).model_fields.items():
        choices = few_choices(field)
        if declaration(field).form == "flag" and choices:
            assert f"--{name.replace('_', '-')} " in shown
            assert "|".join(choices) in shown
    assert all(f"{option} " in shown for option in ("--help", "--print-config", "--set", "--json"))


def test_the_short_and_the_long_way() -> None:
    long = run_gptctl("clean", "--help")
    assert long.code == 0
    for words in (("clean", "-h"), ("help", "clean")):
        done = run_gptctl(*words)
        assert (done.code, done.out, done.err) == (0, long.out, "")
    whole = run_gptctl("--help")
    for words in (("-h",), ("help",)):
        assert run_gptctl(*words).out == whole.out
    assert run_gptctl("version").out == run_gptctl("--version").out
    assert run_gptctl("help", "cleen").code == 2


def test_a_closed_pipe() -> None:
    """As in `gptctl clean --help | head -n 1`."""
    for words in ("--help", "clean --help"):
        script = f"{sys.executable} -m gptctl {words} | head -n 1 > /dev/null; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=REPO)
        assert (done.stdout.strip(), done.stderr) == ("141", "")


@pytest.mark.parametrize("words", [(), ("clean",), ("pretrain",)])
def test_nothing_typed(words: tuple[str, ...]) -> None:
    """Help on standard error, where it does not go into a pipe, and no error line without words."""
    done = run_gptctl(*words)
    assert (done.code, done.out) == (2, b"")
    assert "Usage: gptctl" in done.err
    assert done.error_lines == []


@pytest.mark.parametrize("stage", stage_names())
def test_print_config_needs_no_input(stage: str) -> None:
    done = run_gptctl(stage, "--print-config")
    assert (done.code, done.err) == (0, "")
    found = tomllib.loads(done.out.decode())
    required = [name for name, field in config_model(stage).model_fields.items() if field.is_required()]
    assert not set(required) & set(found)
    assert all(name in done.out.decode().splitlines()[0] for name in required)


@pytest.mark.parametrize("stage", NEEDS_ARGUMENTS)
def test_what_is_missing_and_what_to_type(stage: str) -> None:
    done = run_gptctl(stage, "--json")
    assert done.code == 2
    error, hint = done.error_lines
    assert error.startswith("error: ") and ("missing" in error or "name either" in error), error
    assert f"gptctl {stage} " in hint, hint
