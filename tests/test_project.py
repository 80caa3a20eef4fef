"""The project's own files agree with one another: the workflow, the hooks before a commit, the version, the pins."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import gptctl
from tests.conftest import REPO

BIN = Path(sys.executable).parent
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())


def read(path: str) -> Any:
    """Read a YAML file of the project."""
    return yaml.safe_load((REPO / path).read_text())


def test_the_workflow_tests_what_is_promised() -> None:
    """Both systems, from the oldest Python that installs gptctl; each target of make that it names is there."""
    jobs = read(".github/workflows/tests.yml")["jobs"]
    matrix = jobs["test"]["strategy"]["matrix"]
    assert matrix["os"] == ["ubuntu-latest", "macos-latest"]
    assert PROJECT["project"]["requires-python"] == f">={matrix['python'][0]}"
    assert matrix["python"] == ["3.11", "3.12", "3.13", "3.14"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    targets = re.findall(r"make (\S+)", "\n".join(commands))
    assert targets == ["lint", "test"]
    makefile = (REPO / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_hooks_before_a_commit_download_nothing() -> None:
    """pre-commit accepts the file, and each hook is a program that `make lint` installs."""
    done = subprocess.run([BIN / "pre-commit", "validate-config"], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    (local,) = read(".pre-commit-config.yaml")["repos"]
    assert local["repo"] == "local"
    for hook in local["hooks"]:
        program = Path(hook["entry"].split()[0])
        assert program.parent == Path(".venv/bin")
        assert (BIN / program.name).exists(), program


def test_the_version_stands_in_one_place() -> None:
    """In gptctl/__init__.py, where the build reads it."""
    assert "version" not in PROJECT["project"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "gptctl.__version__"}
    assert Version(gptctl.__version__)


def test_what_is_required_is_pinned() -> None:
    """Each requirement has a version in constraints.txt, and one that the requirement allows."""
    lines = (REPO / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pinned = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}
    groups = [PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values()]
    for text in (requirement for group in groups for requirement in group):
        wanted = Requirement(text)
        assert Version(pinned[re.sub(r"[-_.]+", "-", wanted.name).lower()]) in wanted.specifier, text
