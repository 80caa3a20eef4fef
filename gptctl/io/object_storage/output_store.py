"""ObjectOutputStore: an output in object storage. It is made in a local folder and then uploaded, the manifest last.

Object storage cannot rename or lock, and stages map, rewrite and resume files. So a stage works in a local folder below
$GPTCTL_CACHE (else ~/.cache/gptctl) that belongs to the URI, where a killed run is resumed too. run.json is uploaded
first and shows that a run has started; manifest.json is uploaded last and shows that the output is complete. A reader
that finds run.json without a manifest refuses the output. Files that were uploaded before an interruption are not
uploaded again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.fs as pafs
import xxhash

from gptctl.core import atomic
from gptctl.core.cache_folder import cache_folder
from gptctl.core.context import Context
from gptctl.core.errors import ConflictError, MachineError, from_os_error
from gptctl.core.redact import redact
from gptctl.core.run_folder import OutputManifest, clear_folder
from gptctl.core.run_record import MANIFEST, RUN_RECORD, parse_record, read_record
from gptctl.io.dataset import manifest
from gptctl.io.files import CHUNK_BYTES, content_hash, object_fingerprint, read_if_exists
from gptctl.io.object_storage.address import Address, filesystem, join, list_files

Item = TypeVar("Item")
Result = TypeVar("Result")
MAX_PARALLEL_REQUESTS = 8


@dataclass(frozen=True)
class ObjectOutputStore:
    """A URI that an output is written to. It implements `gptctl.core.run_folder.OutputStore`."""

    uri: str
    context: Context

    @property
    def name(self) -> str:
        """Return the URI without its password."""
        return redact(self.uri)

    @property
    def folder(self) -> Path:
        """Return the local folder in which the output is made."""
        without_login = replace(Address.parse(self.uri), user="", password="")
        return cache_folder() / "outputs" / xxhash.xxh3_128_hexdigest(str(without_login).encode())

    def download_records(self, folder: Path) -> None:
        """Make the folder's records equal to the stored ones. If both belong to one interrupted run, keep its work.

        Raises ConflictError (5) if the URI has files but no run.json of gptctl.
        """
        stored_record, stored_manifest = self._read(RUN_RECORD), self._read(MANIFEST)
        stored, local = parse_record(stored_record), read_record(folder)
        if not stored and (foreign := list_files(self.uri, recursive=False)):
            raise ConflictError(
                f"{self.name} holds files that gptctl did not make ({foreign[0].base_name})",
                "choose an empty or new place with -o",
            )
        if stored and local and stored_manifest is None and is_same_run(stored, local):
            return
        clear_folder(folder)
        if stored_record is not None and stored:
            atomic.write_bytes(folder / RUN_RECORD, stored_record)
            (folder / "work").mkdir()  # otherwise the folder would count as a run that wrote nothing
            if stored_manifest is not None:
                atomic.write_bytes(folder / MANIFEST, stored_manifest)

    def _read(self, name: str) -> bytes | None:
        return read_if_exists(join(self.uri, name))

    def begin(self, folder: Path, fresh: bool) -> None:
        """Remove the stored manifest, then all other stored files if the run is `fresh`, then upload run.json.

        The manifest is removed first, so that nobody reads an output that is changing.
        """
        system = filesystem(self.uri)[0]
        found = sorted(list_files(self.uri, recursive=False), key=lambda info: (info.base_name != MANIFEST, info.path))
        try:
            for info in found:
                if info.base_name == RUN_RECORD or not (fresh or info.base_name == MANIFEST):
                    continue
                atomic.operation(folder)
                if info.is_file:
                    system.delete_file(info.path)
                else:
                    system.delete_dir(info.path)
        except OSError as error:
            raise from_os_error(error, self.uri) from error
        upload(folder / RUN_RECORD, join(self.uri, RUN_RECORD))

    def publish(self, folder: Path, manifest: OutputManifest) -> None:
        """Upload the files that are not stored yet, then run.json, then the manifest."""
        uploads = UploadLog.read(folder / "work" / "sent.jsonl")
        names = sorted(name for name in output_files(folder) if name != RUN_RECORD)
        with closing(
            parallel_map(lambda name: uploads.upload_new(folder / name, join(self.uri, name), name), names)
        ) as uploaded:
            for done, _ in enumerate(uploaded, start=1):
                self.context.progress(done, len(names), "files uploaded")
                self.context.stop.check("stopped")
        upload(folder / RUN_RECORD, join(self.uri, RUN_RECORD))
        manifest.write(folder / "work")
        upload(folder / "work" / MANIFEST, join(self.uri, MANIFEST))

    def is_complete(self, folder: Path) -> bool:
        """Return whether everything that the manifest lists is stored with its size."""
        found = manifest.read(folder)
        start = len(Address.parse(self.uri).path) + 1
        sizes = {info.path[start:]: info.size for info in list_files(self.uri)}
        has_shards = all(sizes.get(shard.path) == shard.bytes for shard in found.shards)
        return has_shards and (found.kind != "tokens" or "tokenizer.json" in sizes)


@dataclass(frozen=True)
class UploadLog:
    """The files that were uploaded: for each name its hash, and the fingerprint of the stored object."""

    path: Path
    uploaded: dict[str, list[str]]

    @classmethod
    def read(cls, path: Path) -> UploadLog:
        """Read the log, skipping lines that a crash has cut short."""
        uploaded: dict[str, list[str]] = {}
        for line in path.read_bytes().splitlines() if path.exists() else ():
            try:
                name, facts = json.loads(line)
            except (ValueError, TypeError):
                continue
            uploaded[name] = facts
        return cls(path, uploaded)

    def upload_new(self, path: Path, uri: str, name: str) -> None:
        """Upload a file and log it, unless it was uploaded already and is still stored."""
        checksum = content_hash(str(path))
        if self.uploaded.get(name) != [checksum, object_fingerprint_if_exists(uri)]:
            atomic.append_line(self.path, json.dumps([name, [checksum, upload(path, uri)]]))


def is_same_run(stored: dict[str, Any], local: dict[str, Any]) -> bool:
    """Return whether two records belong to the same command. The hash of a stream is known only after it was read."""
    inputs = [record["inputs"] for record in (stored, local) if record["inputs"] is not None]
    return all(stored[key] == local[key] for key in ("stage", "settings")) and inputs[1:] in ([], inputs[:1])


def output_files(folder: Path) -> Iterator[str]:
    """Yield the paths of an output's files below its folder, except the lock, the manifest and the task records."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if path.is_file() and name.parts[0] not in ("work", ".lock", MANIFEST) and ".tmp-" not in path.name:
            yield name.as_posix()


def object_fingerprint_if_exists(uri: str) -> str | None:
    """Return the fingerprint of an object, or None if it does not exist."""
    system, inner = filesystem(uri)
    return object_fingerprint(uri) if system.get_file_info(inner).type == pafs.FileType.File else None


def upload(path: Path, uri: str) -> str:
    """Copy a local file to a URI, where it appears only when complete, and return the fingerprint of the object.

    Raises MachineError (4) if the stored object has another size.
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
        raise MachineError(f"{uri} was uploaded incompletely: {found}", "run the same command again")
    return found


def parallel_map(function: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result]:
    """Yield function(item) in order. Several items run at a time on threads, because most of the time is waiting."""
    pool = ThreadPoolExecutor(MAX_PARALLEL_REQUESTS)
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
