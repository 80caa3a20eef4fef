"""Collect real text that every machine with CPython already has: its standard library.

    python collect_stdlib.py OUT.jsonl [--max-mb 12]

Writes one JSON object per line, {"id", "text", "kind", "source"}, sorted by id; the same Python gives the same bytes.
Kinds: `docstrings` (all docstrings of a module, joined), `topics` (the language reference behind `help("topics")`) and
`source` (a module as it is). Some documents repeat others, wholly or in part: deduplication has something to do.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import inspect
import json
import sysconfig
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# other people's packages, test data (some of it is broken on purpose), and what is not text
SKIPPED_FOLDERS = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
# build settings of this one machine, and the topics, which become documents of their own
SKIPPED_FILES = ("_sysconfigdata", "topics.py")
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class Source(NamedTuple):
    """One module: its path below the standard library, its text, and the syntax tree of it."""

    path: str
    text: str
    tree: ast.Module


def modules() -> Iterator[Source]:
    """Read every module of the standard library that this Python can parse, sorted by path."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
        inside = path.relative_to(root)
        if SKIPPED_FOLDERS.intersection(inside.parts) or path.name.startswith(SKIPPED_FILES):
            continue
        try:
            with tokenize.open(path) as file:  # honours the coding line
                text = file.read()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # old modules hold escapes that are no longer welcome
                tree = ast.parse(text)
        except (OSError, SyntaxError, ValueError):
            continue
        yield Source(inside.as_posix(), text, tree)


def documented(node: ast.AST) -> Iterator[DOCUMENTED]:
    """Return the module, classes and functions from top to bottom, each before what is inside it."""
    if isinstance(node, DOCUMENTED):
        yield node
    for child in ast.iter_child_nodes(node):
        yield from documented(child)


def documents() -> Iterator[dict[str, str]]:
    """Return all documents, in no order that matters."""
    for module in modules():
        docstrings = [ast.get_docstring(node, clean=False) for node in documented(module.tree)]
        joined = "\n\n".join(inspect.cleandoc(text) for text in docstrings if text and text.strip())
        for kind, text in (("docstrings", joined), ("source", module.text)):
            if text.strip():
                yield {"id": f"{kind}/{module.path}", "text": text, "kind": kind, "source": module.path}
    for name, text in topics().items():
        yield {"id": f"topics/{name}", "text": text, "kind": "topics", "source": "pydoc_data/topics.py"}


def topics() -> dict[str, str]:
    """Return the chapters of the language reference; a few minimal installations lack them."""
    try:
        from pydoc_data import topics as chapters
    except ImportError:
        return {}
    return chapters.topics


def fit(found: list[dict[str, str]], max_bytes: float) -> list[dict[str, str]]:
    """Keep prose first, then modules in an order that has nothing to do with their names, up to `max_bytes` of text."""

    def rank(document: dict[str, str]) -> tuple[bool, str]:
        return document["kind"] == "source", hashlib.sha256(document["id"].encode()).hexdigest()

    kept, used = [], 0
    for document in sorted(found, key=rank):
        size = len(document["text"].encode("utf-8", "replace"))
        if used + size <= max_bytes:
            kept.append(document)
            used += size
    return sorted(kept, key=lambda document: document["id"])


def main() -> None:
    """Write the file and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT.jsonl")
    parser.add_argument("--max-mb", type=float, default=12, help="most text to write, in MB (default: 12)")
    options = parser.parse_args()
    kept = fit(list(documents()), options.max_mb * 1e6)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
        for document in kept:
            file.write(json.dumps(document, ensure_ascii=False) + "\n")
    size = sum(len(document["text"].encode("utf-8", "replace")) for document in kept)
    kinds = ", ".join(
        f"{count} {kind}" for kind, count in sorted(Counter(document["kind"] for document in kept).items())
    )
    print(f"{options.out}: {len(kept)} documents, {size / 1e6:.1f} MB of text ({kinds})")


if __name__ == "__main__":
    main()
