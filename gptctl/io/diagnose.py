"""Checks of an output on disk. Each finding says what is wrong, where, and whether data or only work is lost."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from gptctl.core.errors import DataError, GptctlError
from gptctl.core.regular_files import check_regular
from gptctl.core.run_lock import is_locked
from gptctl.core.run_record import MANIFEST, RUN_RECORD, is_of_data_or_settings, library_versions
from gptctl.io.dataset import manifest
from gptctl.io.dataset.manifest import Manifest, Shard
from gptctl.io.dataset.shard_format import SUFFIXES
from gptctl.io.files import read_hash, read_if_exists
from gptctl.io.lineage import Output
from gptctl.io.object_storage.address import is_uri, join

READERS = 4
MAX_NAMED = 5
NOT_ENDED = ("running", "finishing")  # the status in run.json if the process was killed


@dataclass(frozen=True)
class Finding:
    """One result of a check. "damage" is lost data; "unfinished" is work that the same command continues."""

    level: Literal["damage", "unfinished", "note"]
    where: str
    what: str

    def to_json(self) -> dict[str, Any]:
        """Return the finding as --json prints it."""
        return asdict(self)


def check(output: Output) -> list[Finding]:
    """Verify an output's records, and each of its shards against its checksum."""
    folder = output.folder
    found = list(check_state(output))
    if output.manifest is not None:
        found += check_shards(folder, output.manifest)
        found += check_files(folder, output)
        if not is_uri(folder):
            found += check_strays(Path(folder), output.manifest)
    found += check_versions(output)
    return found


def check_state(output: Output) -> Iterator[Finding]:
    """Find out whether an output is complete, being made, stopped, failed or killed."""
    folder, status = output.folder, output.record.get("status")
    if output.manifest is None and read_if_exists(join(folder, MANIFEST)) is not None:
        yield Finding("damage", f"{folder}/{MANIFEST}", "is damaged")
        return
    if not output.record:
        found = "is gone" if read_if_exists(join(folder, RUN_RECORD)) is None else "is damaged"
        words = f"{found}: settings and inputs stand in the manifest, the command does not"
        yield Finding("damage", str(join(folder, RUN_RECORD)), words)
    if output.manifest is not None:
        return
    if status == "done":
        yield Finding("damage", folder, f"was complete, and {MANIFEST} is gone")
    elif not is_uri(folder) and is_locked(Path(folder)):
        yield Finding("note", folder, f"is being made now by pid {output.record.get('pid')}")
    elif status in NOT_ENDED:
        yield Finding("unfinished", folder, f"was killed (pid {output.record.get('pid')} is gone)")
    else:
        corrected = "; correct this first" if is_of_data_or_settings(output.record) else ""
        yield Finding("unfinished", folder, f"{status}: {output.record.get('error', '')}{corrected}")


def check_shards(folder: str, found: Manifest) -> list[Finding]:
    """Verify the size and the checksum of every file that the manifest lists."""

    def verify(shard: Shard) -> Finding | None:
        try:
            manifest.read_shard(folder, shard)
        except DataError as error:
            return Finding("damage", f"{folder}/{shard.path}", error.message)
        except GptctlError as error:  # the storage does not answer, or may not be read
            return Finding("damage", f"{folder}/{shard.path}", f"cannot be read: {error.message}")
        return None

    with ThreadPoolExecutor(READERS) as pool:  # hashing releases Python's lock
        return [finding for finding in pool.map(verify, found.shards) if finding]


def check_files(folder: str, output: Output) -> Iterator[Finding]:
    """Verify the size and the checksum of the files besides the shards."""
    assert output.manifest is not None
    listed = [(file.path, file.xxh3_128) for file in output.manifest.files]
    listed += [(file["path"], file["xxh3_128"]) for file in output.record.get("files", ())]
    for name, checksum in listed:
        where = str(join(folder, name))
        try:
            check_regular(where)
            if read_hash(where) != checksum:
                yield Finding("damage", where, "has changed since it was written")
        except GptctlError as error:
            yield Finding("damage", where, error.message)


def check_strays(folder: Path, found: Manifest) -> Iterator[Finding]:
    """Report shard files that the manifest does not list, which nothing reads, and files that killed writers left."""
    listed = {shard.path for shard in found.shards}
    present = (
        path.relative_to(folder).as_posix()
        for path in sorted((folder / "shards").rglob("*"))
        if path.suffix in SUFFIXES
    )
    if strays := [path for path in present if path not in listed]:
        yield Finding("note", str(folder), f"not in the manifest, so not read: {named(strays)}")
    if not is_locked(folder) and (left := [path.name for path in sorted(folder.rglob("*.tmp-*"))]):
        yield Finding("note", str(folder), f"left by a killed process, removed by the next run: {named(left)}")


def check_versions(output: Output) -> Iterator[Finding]:
    """Report libraries whose versions have changed since the output was made."""
    then, now = output.record.get("versions") or {}, library_versions()
    changed = [f"{name} {then[name]} (now {now.get(name, 'absent')})" for name in then if then[name] != now.get(name)]
    if changed:
        yield Finding("note", output.folder, f"was made with {', '.join(changed)}")


def named(names: list[str]) -> str:
    """Return the first few names as text, and the number of the others."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more
