"""Inputs of the fault tests: real text, small where a command is run a hundred times."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import documents, write_jsonl


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one file, 40 documents: one shard task."""
    folder = tmp_path_factory.mktemp("small") / "raw"
    folder.mkdir()
    write_jsonl(folder / "a.jsonl", documents(40, words=30))
    return folder


@pytest.fixture(scope="session")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two files over 1 MiB: several shard tasks."""
    folder = tmp_path_factory.mktemp("several") / "raw"
    folder.mkdir()
    rows = documents(400, words=900)
    write_jsonl(folder / "a.jsonl", rows[:250])
    write_jsonl(folder / "b.jsonl", rows[250:])
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)
