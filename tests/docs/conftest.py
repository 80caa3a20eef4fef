"""A folder that holds what the pages speak of."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import documents, warm, write_jsonl


@pytest.fixture
def desk(workspace: Path, tmp_path: Path) -> Path:
    """What `workspace` made, by links, and inputs under the names that the pages use; `bin` has gptctl and python."""
    for source in workspace.iterdir():
        (tmp_path / source.name).symlink_to(source)
    for day in ("monday", "tuesday", "wednesday"):
        (tmp_path / day).symlink_to(workspace / "clean")
    (tmp_path / "raw").mkdir()
    shutil.copy(workspace / "raw.jsonl", tmp_path / "raw")
    shutil.copy(workspace / "pages" / "a.html", tmp_path / "raw")
    (tmp_path / "text").symlink_to(tmp_path / "raw")
    texts = [row["text"] for row in documents(24, 30)]
    rows = [{"text": text, "other": text if n % 2 else texts[n - 1], "label": n % 2} for n, text in enumerate(texts)]
    asked = [
        {"messages": [{"role": "user", "content": text[:40]}, {"role": "assistant", "content": text[40:90]}]}
        for text in texts
    ]
    for name, made in (("pairs", rows), ("talk", asked)):
        (tmp_path / name).mkdir()
        write_jsonl(tmp_path / name / "train.jsonl", made)
    answers = [{"id": str(n), "label": "a", "pred": "ab"[n % 2]} for n in range(8)]
    write_jsonl(tmp_path / "theirs.jsonl", answers)
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "gptctl").write_text(f'#!/bin/sh\nexec {shlex.join(warm("gptctl"))} "$@"\n')
    (tools / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    return tmp_path
