"""The public interface: what modules list in `__all__` exists, is documented, and is what the pages show."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPO
from tests.docs.pages import PAGES, blocks

API_PAGES = ("python.md", "plugins.md")


def defines_all(path: Path) -> bool:
    """Return whether a module assigns `__all__`."""
    targets = (node.targets for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign))
    return any(isinstance(target, ast.Name) and target.id == "__all__" for group in targets for target in group)


def module_name(path: Path) -> str:
    """Return the dotted name of a file of gptctl."""
    return ".".join(path.relative_to(REPO).with_suffix("").parts).removesuffix(".__init__")


PUBLIC = sorted(module_name(path) for path in (REPO / "gptctl").rglob("*.py") if defines_all(path))


def imports_in_pages() -> Iterator[tuple[str, str, str]]:
    """Yield each name that a Python example imports from gptctl: page, module, name."""
    for page in PAGES:
        for block in blocks(page):
            if block.language == "python":
                for node in ast.walk(ast.parse(block.text)):
                    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gptctl":
                        yield from ((page.name, str(node.module), alias.name) for alias in node.names)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_exist_and_are_documented(name: str) -> None:
    """Each name once; each function and class, and the module itself, has a docstring."""
    module = importlib.import_module(name)
    assert module.__doc__
    assert len(set(module.__all__)) == len(module.__all__)
    for public in module.__all__:
        assert not public.startswith("_") or public == "__version__"
        value = getattr(module, public)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, f"{name}.{public}"


def test_public_modules_are_in_the_pages() -> None:
    """Each is named, as a module or as a file, by the page on Python or that on plug-ins."""
    text = "\n".join((REPO / "docs" / page).read_text() for page in API_PAGES)
    named = set(re.findall(r"gptctl(?:\.\w+)+", text))
    named |= {module_name(REPO / path) for path in re.findall(r"`(gptctl/[\w/]+\.py)`", text)}
    assert set(PUBLIC) <= named | {"gptctl"}


def test_what_the_pages_import_is_public() -> None:
    """No example leads a reader to a name that may change."""
    found = list(imports_in_pages())
    assert found
    for page, name, imported in found:
        assert name in PUBLIC, f"{page}: {name} has no __all__"
        assert imported in importlib.import_module(name).__all__, f"{page}: {name}.{imported}"


def test_what_the_pages_call_is_in_the_package() -> None:
    """gptctl.NAME in the page on Python, and each name of the package in that page."""
    package = importlib.import_module("gptctl")
    listed = set(getattr(package, "__all__", ()))
    text = (REPO / "docs" / "python.md").read_text()
    shown = set(re.findall(r"\bgptctl\.(\w+)", text)) - {name.split(".")[1] for name in PUBLIC if "." in name}
    assert shown - {"__version__"} == listed - {"__version__"}
