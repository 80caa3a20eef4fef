"""The files of an output: which a command wrote besides its shards, and whether they are still what was written.

The manifest lists the files that only inputs, settings and seed decide, and run.json those that also contain times:
config.toml, events.jsonl and log.txt. Not listed are checkpoints, which have manifests of their own, what loggers of
others write, and README.md, which people edit.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

from gptctl.core import checked_json
from gptctl.core.errors import DataError, from_os_error
from gptctl.core.run_record import MANIFEST, RUN_RECORD

CARD = "README.md"  # people edit it, so no checksum is kept
CHUNK_BYTES = 2**20
WITH_TIMES = ("config.toml", "events.jsonl", "log.txt")
NOT_LISTED = (".lock", "work", "checkpoints", "tensorboard", "wandb", CARD)
HASHED_AT_ONCE = 256 * 2**20  # bytes; of larger outputs, only the sizes are compared before a command is "up to date"
Entry = Mapping[str, Any]  # path below the folder, bytes, xxh3_128


def list_files(folder: Path, shards: Collection[str]) -> list[Entry]:
    """Return the entries of an output's files for its manifest, besides its shards and the files with times.

    Hashes that the manifests of folders inside it know, such as those of weights, are not computed again.
    """
    found = [path.as_posix() for path in files_below(folder, Path())]
    known: dict[str, Entry] = {}
    for name in found:
        if name.endswith(f"/{MANIFEST}"):
            inner = entries_of(checked_json.read(folder / name) or {})
            known |= {f"{name.removesuffix(MANIFEST)}{one['path']}": one for one in inner}
    names = (name for name in found if name not in shards and name not in WITH_TIMES)
    return [
        {"path": name, "bytes": known[name]["bytes"], "xxh3_128": known[name]["xxh3_128"]}
        if name in known
        else entry(folder, name)
        for name in names
    ]


def entries_of(manifest: Mapping[str, Any]) -> list[Entry]:
    """Return the entries of a manifest: its shards and its other files."""
    return [*manifest.get("shards", ()), *manifest.get("files", ())]


def list_files_with_times(folder: Path) -> list[Entry]:
    """Return the entries of an output's files for its run.json."""
    return [entry(folder, name) for name in WITH_TIMES if (folder / name).is_file()]


def files_below(folder: Path, start: Path) -> Iterator[Path]:
    """Yield the paths of the files that are listed, sorted. Pipes, sockets and devices are none."""
    for found in sorted(os.scandir(folder / start), key=lambda found: found.name):
        path = start / found.name
        own = start == Path() and found.name in (MANIFEST, RUN_RECORD)
        if own or found.name in NOT_LISTED or ".tmp-" in found.name:
            continue
        if found.is_dir():
            yield from files_below(folder, path)
        elif found.is_file():
            yield path


def entry(folder: Path, name: str) -> Entry:
    """Return the entry of a file: its path, size and hash."""
    return {"path": name, "bytes": (folder / name).stat().st_size, "xxh3_128": file_hash(folder / name)}


def file_hash(path: Path) -> str:
    """Return the hash of a file's content (xxh3, 128 bits)."""
    digest = xxhash.xxh3_128()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise from_os_error(error, path) from error
    return digest.hexdigest()


class FileState(NamedTuple):
    """What the file system tells of a file. Any writing changes it: `changed`, a time in ns, cannot be set back."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int


def file_state(path: Path) -> FileState:
    """Return the state of a file, which is not read."""
    try:
        found = path.stat()
    except OSError as error:
        raise from_os_error(error, path) from error
    return FileState(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def states_of(paths: Iterable[Path]) -> dict[Path, FileState]:
    """Return the states of those files that exist."""
    return {path: file_state(path) for path in paths if path.exists()}


def check_states(states: Mapping[Path, FileState]) -> None:
    """Raise DataError (3) that names the first file whose state is another one now."""
    now = states_of(states)
    for path, state in states.items():
        if now.get(path) != state:
            raise DataError(f"{path} has changed since it was opened", "run the same command again")


def changed_files(folder: Path, entries: Sequence[Entry]) -> Iterator[str]:
    """Yield the paths of the files that are missing or have changed. Of very large outputs, compare the sizes only."""
    is_hashed = sum(listed["bytes"] for listed in entries) <= HASHED_AT_ONCE
    for listed in entries:
        path = folder / listed["path"]
        same = path.is_file() and path.stat().st_size == listed["bytes"]
        if not same or (is_hashed and file_hash(path) != listed["xxh3_128"]):
            yield str(listed["path"])


def changed_output(folder: Path) -> list[str]:
    """Return the paths of the files that the manifest lists and that are missing or have changed.

    If the manifest itself is missing or damaged, it is the only one.
    """
    found = checked_json.read(folder / MANIFEST)
    return [MANIFEST] if found is None else list(changed_files(folder, entries_of(found)))
