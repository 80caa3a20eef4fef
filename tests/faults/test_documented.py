"""docs/reliability.md: 27 cases, and every test that it names exists."""

from __future__ import annotations

import ast
import re
from functools import cache

from tests.conftest import REPO

PAGES = ("reliability.md", "security.md")
NODE = re.compile(r"`((?:tests/)?[\w/]+\.py)::(\w+)`")


def page(name: str) -> str:
    return (REPO / "docs" / name).read_text(encoding="utf-8")


@cache
def functions(path: str) -> set[str]:
    """List the tests of a file."""
    tree = ast.parse((REPO / path).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_named_test_exists() -> None:
    for name in PAGES:
        found = NODE.findall(page(name))
        assert found, name
        for path, function in found:
            assert function in functions(path), f"{name}: {path}::{function}"


def test_every_case_is_there_with_a_test() -> None:
    rows = [
        line.strip("|").split("|") for line in page("reliability.md").splitlines() if re.match(r"\| *\d+ *\|", line)
    ]
    assert [int(row[0]) for row in rows] == list(range(1, 28))
    for number, case, happens, tests in rows:
        assert case.strip() and happens.strip(), number
        assert NODE.search(tests), number


def test_every_fault_test_is_named() -> None:
    """A fault test that no page names is one that nobody knows of."""
    named = {f"{path}::{function}" for name in PAGES for path, function in NODE.findall(page(name))}
    for path in sorted((REPO / "tests" / "faults").glob("test_*.py")):
        relative = path.relative_to(REPO).as_posix()
        if path.name != "test_documented.py":
            assert {f"{relative}::{function}" for function in functions(relative)} <= named, relative
