"""A folder that holds what the pages speak of."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPO, documents, put_tools, run_gptctl, warm, write_jsonl

# The examples at the size of a test.
PYTHON = f"""#!/bin/sh
case "$1" in
    *collect_stdlib.py) set -- "$@" --max-mb 0.2 ;;
    *label_lines.py) set -- "$@" --per-class 20 ;;
esac
exec {sys.executable} "$@"
"""


@pytest.fixture(scope="session")
def stock(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `workspace` has, a model that talks, and inputs under the names that the pages use; `bin` has the tools."""
    folder = tmp_path_factory.mktemp("stock")
    shutil.copytree(workspace, folder, dirs_exist_ok=True)
    for day in ("monday", "tuesday", "wednesday"):
        shutil.copytree(workspace / "clean", folder / day)
    for name in ("raw", "text"):
        (folder / name).mkdir()
        shutil.copy(workspace / "raw.jsonl", folder / name)
        shutil.copy(workspace / "pages" / "a.html", folder / name)
    texts = [row["text"] for row in documents(24, 30)]
    pairs = [{"text": text, "other": text if n % 2 else texts[n - 1], "label": n % 2} for n, text in enumerate(texts)]
    talk = [
        {"messages": [{"role": "user", "content": text[:5]}, {"role": "assistant", "content": text[5:9]}]}
        for text in texts
    ]
    for name, rows in (("pairs", pairs), ("talk", talk)):
        (folder / name).mkdir()
        write_jsonl(folder / name / "train.jsonl", rows)
    write_jsonl(folder / "theirs.jsonl", list(answers(folder / "labelled")))
    done = run_gptctl("finetune", "run", "talk", "-o", "assistant", "--task", "chat", "--epochs", "1", cwd=folder)
    assert done.code == 0, done.err
    put_tools(folder, warm("gptctl"), PYTHON)
    return folder


@pytest.fixture
def desk(stock: Path, tmp_path: Path) -> Path:
    """A copy of `stock` to work in."""
    shutil.copytree(stock, tmp_path, dirs_exist_ok=True)
    (tmp_path / "examples").symlink_to(REPO / "examples")
    return tmp_path


def answers(labelled: Path) -> Iterator[dict[str, Any]]:
    """Answer the questions as another system would, under the ids that gptctl gives their rows."""
    for split in ("val", "test"):
        at = 0
        for line in (labelled / f"{split}.jsonl").read_bytes().splitlines(keepends=True):
            yield {"split": split, "id": f"{split}.jsonl:{at}", "label": json.loads(line)["label"], "pred": "even"}
            at += len(line)
