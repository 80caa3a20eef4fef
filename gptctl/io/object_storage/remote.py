"""An output in object storage: made in a folder of this machine, then brought there, the manifest last.

Object storage has no rename and no lock, and our stages map, rewrite and resume files. So a stage works as anywhere
else, in a folder below $GPTCTL_CACHE (else ~/.cache/gptctl) that belongs to the URI; a run that was killed goes on
there. run.json arrives first and says that a run is under way, manifest.json last and says that the output is complete:
a reader that finds the former alone refuses. Files that arrived before an interruption are not sent again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.fs as pafs
import xxhash

from gptctl.core import atomic
from gptctl.core.context import Context
from gptctl.core.errors import ConflictError, MachineError, from_os_error
from gptctl.core.redact import redact
from gptctl.core.run_folder import OutputManifest, clear_folder
from gptctl.core.run_record import MANIFEST, RUN_RECORD, parse_record, read_record
from gptctl.io.dataset import manifest
from gptctl.io.files import CHUNK_BYTES, content_hash, object_fingerprint, read_if_exists
from gptctl.io.object_storage.address import Address, filesystem, join, list_files

Item = TypeVar("Item")
Answer = TypeVar("Answer")
REQUESTS_AT_ONCE = 8


@dataclass(frozen=True)
class ObjectOutputStore:
    """A URI that is written to; a `gptctl.core.run_folder.OutputStore`."""

    uri: str
    context: Context

    @property
    def name(self) -> str:
        """Return the URI without its password, for people."""
        return redact(self.uri)

    @property
    def folder(self) -> Path:
        """Name the folder in which the output is made."""
        public = replace(Address.parse(self.uri), user="", password="")
        return cache_folder() / "outputs" / xxhash.xxh3_128_hexdigest(str(public).encode())

    def fetch(self, folder: Path) -> None:
        """Make the folder's records those of the URI, and keep the work of a run that was cut off in both.

        Raises ConflictError (5) where the URI holds files, but no run.json of ours.
        """
        data, declared = read_if_exists(join(self.uri, RUN_RECORD)), read_if_exists(join(self.uri, MANIFEST))
        there, here = parse_record(data), read_record(folder)
        if not there and (strangers := list_files(self.uri, recursive=False)):
            raise ConflictError(
                f"{self.name} holds files that gptctl did not make ({strangers[0].base_name})",
                "choose an empty or new place with -o",
            )
        if there and here and declared is None and same_run(there, here):
            return
        clear_folder(folder)
        if data is not None and there:
            atomic.write_bytes(folder / RUN_RECORD, data)
            (folder / "work").mkdir()  # else it would count as a run that had written nothing
            if declared is not None:
                atomic.write_bytes(folder / MANIFEST, declared)

    def begin(self, folder: Path, fresh: bool) -> None:
        """Take the manifest away first, so that nobody reads what changes; then note that a run is under way."""
        system = filesystem(self.uri)[0]
        entries = sorted(
            list_files(self.uri, recursive=False), key=lambda info: (info.base_name != MANIFEST, info.path)
        )
        try:
            for info in entries:
                if info.base_name == RUN_RECORD or not (fresh or info.base_name == MANIFEST):
                    continue
                atomic.operation(folder)
                if info.is_file:
                    system.delete_file(info.path)
                else:
                    system.delete_dir(info.path)
        except OSError as error:
            raise from_os_error(error, self.uri) from error
        send(folder / RUN_RECORD, join(self.uri, RUN_RECORD))

    def publish(self, folder: Path, manifest: OutputManifest) -> None:
        """Send the files that are not there yet, then run.json, then the manifest."""
        log = folder / "work" / "sent.jsonl"
        sent = read_log(log)
        names = sorted(name for name in files_of(folder) if name != RUN_RECORD)
        bring = partial(bring_one, folder, self.uri, log, sent)
        with closing(parallel_map(bring, names)) as arrivals:
            for done, _ in enumerate(arrivals, start=1):
                self.context.progress(done, len(names), "files sent")
                self.context.stop.check("stopped")
        send(folder / RUN_RECORD, join(self.uri, RUN_RECORD))
        manifest.write(folder / "work")
        send(folder / "work" / MANIFEST, join(self.uri, MANIFEST))

    def intact(self, folder: Path) -> bool:
        """Return whether everything that the manifest lists is there with its size."""
        found = manifest.read(folder)
        start = len(Address.parse(self.uri).path) + 1
        sizes = {info.path[start:]: info.size for info in list_files(self.uri)}
        whole = all(sizes.get(shard.path) == shard.bytes for shard in found.shards)
        return whole and (found.kind != "tokens" or "tokenizer.json" in sizes)


def cache_folder() -> Path:
    """Name the folder for what can be made or fetched again: $GPTCTL_CACHE, else gptctl in the user's cache."""
    if given := os.environ.get("GPTCTL_CACHE"):
        return Path(given).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gptctl"


def same_run(there: dict[str, Any], here: dict[str, Any]) -> bool:
    """Return whether two records are of one command; a stream's hash is only known once it was read."""
    inputs = [record["inputs"] for record in (there, here) if record["inputs"] is not None]
    return all(there[key] == here[key] for key in ("stage", "settings")) and inputs[1:] in ([], inputs[:1])


def files_of(folder: Path) -> Iterator[str]:
    """List what belongs to an output, by its path below the folder: not the lock, nor the records of finished tasks."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if path.is_file() and name.parts[0] not in ("work", ".lock", MANIFEST) and ".tmp-" not in path.name:
            yield name.as_posix()


def read_log(log: Path) -> dict[str, list[str]]:
    """Read which files were sent: for each its hash and its fingerprint there. Skip a line that was cut."""
    found: dict[str, list[str]] = {}
    for line in log.read_bytes().splitlines() if log.exists() else ():
        try:
            name, facts = json.loads(line)
        except (ValueError, TypeError):
            continue
        found[name] = facts
    return found


def bring_one(folder: Path, uri: str, log: Path, sent: dict[str, list[str]], name: str) -> None:
    """Send a file and log it, unless it was sent and is still there."""
    checksum, place = content_hash(str(folder / name)), join(uri, name)
    if sent.get(name) != [checksum, object_fingerprint_if_exists(place)]:
        atomic.append_line(log, json.dumps([name, [checksum, send(folder / name, place)]]))


def object_fingerprint_if_exists(uri: str) -> str | None:
    """Identify a file in object storage; None where there is none."""
    system, inner = filesystem(uri)
    return object_fingerprint(uri) if system.get_file_info(inner).type == pafs.FileType.File else None


def send(path: Path, uri: str) -> str:
    """Write a local file to a URI, where it appears as a whole; give its fingerprint there.

    Raises MachineError (4) where it arrived with another size.
    """
    system, inner = filesystem(uri)
    atomic.operation(path)
    try:
        with path.open("rb") as source, system.open_output_stream(inner, compression=None) as sink:
            while chunk := source.read(CHUNK_BYTES):
                sink.write(chunk)
    except OSError as error:
        raise from_os_error(error, uri) from error
    found = object_fingerprint(uri)
    if not found.startswith(f"{path.stat().st_size} B,"):
        raise MachineError(f"{uri} arrived incomplete: {found}", "run the same command again")
    return found


def parallel_map(function: Callable[[Item], Answer], items: Iterable[Item]) -> Generator[Answer]:
    """Yield function(item) in order, some at a time on threads: most of the time is waiting for answers."""
    pool = ThreadPoolExecutor(REQUESTS_AT_ONCE)
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
