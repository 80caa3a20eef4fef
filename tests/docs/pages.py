"""The pages for users, and the commands that stand in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPO

PAGES = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)(?: check=(\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, what stands behind check= (else "run"), its text and its first line's number."""

    language: str
    check: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """Find the fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(found[1], found[2] or "run", found[3], text.count("\n", 0, found.start()) + 2)
        for found in FENCE.finditer(text)
    ]
