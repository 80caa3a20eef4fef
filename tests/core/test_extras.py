"""The libraries that gptctl does not install by itself: what the errors say, and that pyproject.toml says the same."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from gptctl.core import extras
from gptctl.core.errors import MachineError, from_exception
from gptctl.core.extras import EXTRAS, require
from tests.conftest import REPO


def test_hints_install_what_pyproject_declares() -> None:
    """The requirements of each extra, and those alone; every extra for users has a library here."""
    declared = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    without_markers = {
        name: [one.partition(";")[0] for one in wanted] for name, wanted in declared["optional-dependencies"].items()
    }
    users = {name: sorted(wanted) for name, wanted in without_markers.items()}
    named = {extra.extra: sorted(extra.requirements) for extra in EXTRAS.values() if extra.extra}
    assert named == {name: wanted for name, wanted in users.items() if name not in ("test", "lint")}
    assert not any(extra.requirements[0] in declared["dependencies"] for extra in EXTRAS.values())


@pytest.mark.parametrize("name", EXTRAS)
def test_without_the_library(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what needs the library, and the hint installs it from where every library comes."""
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        MachineError, match=rf" needs the package {name.replace('_', '-')}, which is not installed"
    ) as caught:
        require(name)
    assert caught.value.hint is not None and caught.value.hint.startswith(
        f"pip install '{EXTRAS[name].requirements[0]}'"
    )
    assert "gptctl" not in caught.value.hint


def test_a_library_that_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason stays visible."""

    def fail(name: str) -> None:
        raise ImportError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr(extras, "import_module", fail)
    with pytest.raises(MachineError, match=r"wandb, which cannot be imported: libgomp\.so\.1"):
        require("wandb")


def test_an_import_deep_inside_a_command() -> None:
    """Torch is imported in many places, and each of them ends in the same error; other modules are a bug."""
    error = from_exception(ModuleNotFoundError("No module named 'torch'", name="torch"))
    assert (error.exit_code, error.message) == (
        4,
        "training and running models needs the package torch, which is not installed",
    )
    assert error.hint is not None and "https://download.pytorch.org/whl/cpu" in error.hint
    too_old = from_exception(ImportError("cannot import name 'DTensor'", name="torch.distributed.tensor"))
    assert too_old.message.endswith("the package torch, which cannot be imported: cannot import name 'DTensor'")
    assert too_old.exit_code == 4
    assert from_exception(ModuleNotFoundError("No module named 'gptctl.x'", name="gptctl.x")).exit_code == 1


def test_where_pip_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that uv made has no pip: the hint names uv and the interpreter."""
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    assert extras.install_hint(EXTRAS["gguf"]) == f"uv pip install --python {sys.executable} 'gguf>=0.19'"


@pytest.mark.parametrize(
    "page", [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))], ids=lambda page: page.stem
)
def test_pages_install_nothing_by_a_name_that_is_in_no_registry(page: Path) -> None:
    """Anyone could register it: pages install from the folder of a clone, or from an address. No command has a gap."""
    text = page.read_text(encoding="utf-8")
    assert not re.findall(r"(?:pip install|tool install|uvx)(?: --\S+)* '?gptctl(?!\S* @)[^\n]*", text)
    assert "REPOSITORY" not in text
