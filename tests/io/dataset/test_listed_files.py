"""A listed file that is a pipe, a device, a socket or far too long is damage: nothing waits for it or reads it whole."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from gptctl.core import checked_json
from gptctl.core.errors import DataError, GptctlError
from gptctl.core.regular_files import MAX_BYTES, read_small
from gptctl.core.summary import Summary
from gptctl.io.dataset import manifest, shards
from gptctl.stages.clean import Clean
from gptctl.stages.clean import run as clean
from gptctl.stages.dedup import Dedup
from gptctl.stages.dedup import run as dedup
from gptctl.stages.doctor import Doctor
from gptctl.stages.doctor import run as doctor
from tests.conftest import documents, write_jsonl


def socket_at(path: Path) -> None:
    """Make a socket, whose path may have 100 characters only."""
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(path.parent)
        try:
            listener.bind(path.name)
        finally:
            os.chdir(here)


def sparse(path: Path) -> None:
    """Make a file of a terabyte that needs no space."""
    with path.open("wb") as file:
        file.truncate(2**40)


KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (os.mkfifo, "is a pipe"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is a device"),
    "socket": (socket_at, "is a socket"),
    "dangling": (lambda path: path.symlink_to("nowhere"), "missing"),
    "too long": (sparse, "checksum mismatch"),
}


@pytest.fixture(scope="module")
def cleaned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cleaned")
    write_jsonl(folder / "raw.jsonl", documents(20))
    summary: Summary = clean(Clean(inputs=(str(folder / "raw.jsonl"),), out=str(folder / "clean")))
    assert summary.status == "done"
    return folder / "clean"


@pytest.mark.parametrize("kind", KINDS)
def test_a_shard_that_is_no_file(cleaned: Path, tmp_path: Path, kind: str) -> None:
    make, words = KINDS[kind]
    out = tmp_path / "out"
    shutil.copytree(cleaned, out)
    [shard] = manifest.read(out).shards
    (out / shard.path).unlink()
    make(out / shard.path)
    for read in (manifest.read_shard, shards.map_verified):
        with pytest.raises(DataError, match=words):
            read(out, shard)
    if kind in ("pipe", "device", "socket"):
        with pytest.raises(DataError, match=words):
            shards.map_shard(out, shard)
    found = doctor(Doctor(paths=(str(out),)))
    assert found.failure is not None and words in str(found.metrics["findings"])
    with pytest.raises(GptctlError) as caught:
        dedup(Dedup(inputs=(str(out),), out=str(tmp_path / "unique")))
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
@pytest.mark.parametrize("name", ["manifest.json", "run.json", "README.md"])
def test_another_file_that_is_no_file(cleaned: Path, tmp_path: Path, kind: str, name: str) -> None:
    out = tmp_path / "out"
    shutil.copytree(cleaned, out)
    (out / name).unlink(missing_ok=True)
    KINDS[kind][0](out / name)
    try:
        found = doctor(Doctor(paths=(str(out),))).failure
    except GptctlError as error:
        found = error
    assert found is None or found.exit_code == 3


def test_small_files_have_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(DataError, match="more than 256 MiB"):
        read_small(path)


@pytest.mark.parametrize("entry", ["negative", "twice"])
def test_a_manifest_that_cannot_be_right_is_damage(entry: str, cleaned: Path, tmp_path: Path) -> None:
    """Its own checksum is right, as if somebody had computed it."""
    copy = shutil.copytree(cleaned, tmp_path / "clean")
    values = checked_json.read(copy / "manifest.json")
    assert values is not None
    values["shards"] += values["shards"] if entry == "twice" else []
    values["shards"][0] |= {"rows": -5} if entry == "negative" else {}
    checked_json.write(copy / "manifest.json", values)
    with pytest.raises(DataError, match=r"manifest\.json is damaged"):
        manifest.read(copy)
    failure = doctor(Doctor(paths=(str(copy),))).failure
    assert failure is not None and "manifest.json: is damaged" in str(failure)
