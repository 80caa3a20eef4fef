"""What several tests start from: real text with copies, what the command line makes of it, and a hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Ran, read_jsonl, run_gptctl, write_jsonl
from tests.hub_server import Hub, serve, use
from tests.stages.deduped import (
    corpus,
)
from tests.text.dedup import redis_server


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus in two files, which make several shard tasks."""
    folder = tmp_path_factory.mktemp("raw") / "raw"
    folder.mkdir()
    rows = corpus()
    write_jsonl(folder / "a.jsonl", rows[:500])
    write_jsonl(folder / "b.jsonl", rows[500:])
    return folder


@pytest.fixture(scope="session")
def texts(raw: Path) -> dict[str, str]:
    return {row["id"]: row["text"] for row in read_jsonl(raw)}


@pytest.fixture(scope="session")
def unique(raw: Path) -> tuple[Path, Ran]:
    """The corpus without duplicates, by the command line with two workers."""
    done = run_gptctl("dedup", raw, "-o", "unique", "--workers", "2", "--json", cwd=raw.parent)
    assert done.code == 0, done.err
    return raw.parent / "unique", done


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with redis_server.running() as url:
        yield url


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A local server that speaks the hub's API, and a folder of its own to work in."""
    monkeypatch.chdir(tmp_path)
    with serve() as found:
        use(found, tmp_path / "home", monkeypatch)
        yield found
