"""Real texts with a label: what Python's standard library says of itself, in prose and in code."""

from __future__ import annotations

import ast
import random
from functools import cache
from pathlib import Path

PROSE, CODE = "good", "bad"
MODULES = ("argparse", "decimal", "doctest", "inspect", "smtplib", "statistics", "tarfile", "turtle")


@cache
def labelled() -> tuple[dict[str, str], ...]:
    """Return docstrings (good) and the code of the same functions without them (bad), in random order."""
    rows = []
    for name in MODULES:
        tree = ast.parse((Path(ast.__file__).parent / f"{name}.py").read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef) or not (doc := ast.get_docstring(node)) or len(node.body) < 2:
                continue
            code = "\n".join(map(ast.unparse, node.body[1:]))
            for text, label in ((doc, PROSE), (code, CODE)):
                rows.append({"id": f"{name}-{node.lineno}-{label}", "text": text, "label": label})
    random.Random(0).shuffle(rows)
    return tuple(rows)
