"""manifest.json: the list of a dataset's shards. It is written last, so an output that has one is complete.

It contains no time, path or worker count: the same inputs, settings and seed give the same manifest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import xxhash
from pydantic import BaseModel, ConfigDict, NonNegativeInt, field_validator, model_validator

from gptctl.core import checked_json
from gptctl.core.config import fingerprint
from gptctl.core.errors import DataError
from gptctl.core.redact import redacted
from gptctl.core.run_record import MANIFEST, RUN_RECORD, library_versions, parse_record
from gptctl.core.summary import Counts, StoredCounts
from gptctl.core.written_files import changed_files
from gptctl.io.files import read_if_exists
from gptctl.io.object_storage.address import is_uri, join

SCHEMA_VERSION = 1
Folder = Path | str  # a local folder or a URI
SPLITS = ("train", "val", "test")
# The names that files and folders of splits have.
SPLIT_NAMES = {
    "train": "train", "val": "val", "validation": "val", "valid": "val", "dev": "val", "test": "test"
}  # fmt: skip


@dataclass(frozen=True)
class Shard:
    """A file of a dataset. `path` is relative to the dataset's folder. `tokens` is 0 for shards of documents."""

    path: str
    rows: int
    bytes: int
    xxh3_128: str
    tokens: int = 0

    @property
    def split(self) -> str:
        """Return "train", "val" or "test" for shards of a divided dataset, and "" for others."""
        return self.path.split("/")[1] if self.path.count("/") == 2 else ""

    def to_json(self) -> dict[str, Any]:
        """Return the shard's entry in the manifest."""
        entry = {"path": self.path, "rows": self.rows, "bytes": self.bytes, "xxh3_128": self.xxh3_128}
        return entry | ({"tokens": self.tokens} if self.tokens else {})


class StoredFile(BaseModel):
    """The entry of a file in a manifest."""

    model_config = ConfigDict(strict=True)

    path: str
    bytes: NonNegativeInt
    xxh3_128: str

    @field_validator("path")
    @classmethod
    def lies_below(cls, value: str) -> str:
        """Raise ValueError for a path that no file of the folder can have."""
        if "\0" in value or value.startswith("/") or ".." in value.split("/"):
            raise ValueError("not a path below the folder")
        return value


class StoredShard(StoredFile):
    """The entry of a shard in a manifest."""

    rows: NonNegativeInt
    tokens: NonNegativeInt = 0


class StoredManifest(BaseModel):
    """The content of a manifest. Anything else raises ValidationError, which is a ValueError."""

    model_config = ConfigDict(strict=True)

    kind: str
    stage: str
    config: dict[str, Any]
    inputs: dict[str, str]
    shards: list[StoredShard]
    files: list[StoredFile]
    counts: StoredCounts
    metrics: dict[str, Any]
    tokenizer: str

    @model_validator(mode="after")
    def lists_once(self) -> Self:
        """Raise ValueError for a file that is listed twice, whose rows would count twice."""
        paths = [file.path for file in (*self.shards, *self.files)]
        if len(set(paths)) < len(paths):
            raise ValueError("a file is listed twice")
        return self


@dataclass(frozen=True)
class Manifest:
    """What a stage wrote, from which inputs, with which settings."""

    kind: str
    stage: str
    settings: dict[str, Any]
    inputs: dict[str, str]
    shards: tuple[Shard, ...]
    counts: Counts
    metrics: dict[str, Any] = field(default_factory=dict)
    tokenizer: str = ""
    files: tuple[Shard, ...] = ()  # besides the shards

    @property
    def paths(self) -> frozenset[str]:
        """Return the paths of the shards."""
        return frozenset(shard.path for shard in self.shards)

    def with_files(self, files: Sequence[Mapping[str, Any]]) -> Manifest:
        """Return the manifest with the entries of the other files."""
        return replace(self, files=tuple(Shard(rows=0, **file) for file in files))

    def content(self) -> str:
        """Return a hash of everything in the shards. It identifies the dataset as an input of the next stage."""
        return xxhash.xxh3_128_hexdigest(
            "\n".join([self.tokenizer, *(f"{s.path} {s.xxh3_128}" for s in self.shards)]).encode()
        )

    def of_split(self, split: str) -> list[Shard]:
        """Return the shards of one split."""
        return [shard for shard in self.shards if shard.split == split]

    @property
    def splits(self) -> list[str]:
        """Return the names of the splits that have shards, or nothing for a dataset that is not divided."""
        return [split for split in SPLITS if self.of_split(split)]

    def only(self, split: str) -> Manifest:
        """Return the manifest of one split alone."""
        return replace(self, shards=tuple(self.of_split(split)))

    def write(self, folder: Path) -> None:
        """Write manifest.json. This is the last step of a stage."""
        settings = redacted(self.settings)
        document = {
            "kind": self.kind,
            "schema": SCHEMA_VERSION,
            "stage": self.stage,
            "config": settings,
            "fingerprint": fingerprint(settings),
            "inputs": self.inputs,
            "shards": [shard.to_json() for shard in self.shards],
            "files": [{"path": file.path, "bytes": file.bytes, "xxh3_128": file.xxh3_128} for file in self.files],
            "counts": self.counts.to_json(),
            "metrics": self.metrics,
            "tokenizer": self.tokenizer,
            "versions": library_versions(),
        }
        checked_json.write(folder / MANIFEST, document)


def is_ours(folder: Folder) -> bool:
    """Return whether a folder has a manifest.json of gptctl, as opposed to one of another program."""
    data = read_if_exists(join(folder, MANIFEST))
    if data is None:
        return False
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):  # a damaged one is gptctl's if a run.json of gptctl is beside it
        return bool(record_of(folder))
    return isinstance(found, dict) and {"kind", "stage", "shards"} <= found.keys()


def split_folder(folder: Folder, split: str) -> str:
    """Return the path of one split of a divided dataset."""
    return str(join(folder, f"shards/{split}"))


def divided_dataset(path: str) -> tuple[str, str] | None:
    """Return the dataset and the split that a path such as OUT/shards/train names, or None for any other path."""
    bare, question, query = path.partition("?") if is_uri(path) else (path, "", "")
    bare = bare.rstrip("/")
    for split in SPLITS:
        folder = bare.removesuffix(f"/shards/{split}") + question + query
        if folder != bare + question + query and is_ours(folder):
            return folder, split
    return None


def is_damaged_output(folder: Folder) -> bool:
    """Return whether a local folder is an output of gptctl whose run.json and manifest are missing or damaged.

    Without this check, its config.toml, events and shards would be read as documents.
    """
    if is_uri(folder) or not (Path(folder) / ".lock").exists():
        return False
    ours = (RUN_RECORD, MANIFEST, "config.toml", "events.jsonl")  # or run.json.tmp-PID of a writer that was killed
    return any(entry.name.split(".tmp-")[0] in ours for entry in Path(folder).iterdir())


def record_of(folder: Folder) -> dict[str, Any]:
    """Return a folder's run.json, or an empty dictionary if there is none of gptctl."""
    return parse_record(read_if_exists(join(folder, RUN_RECORD)))


def read(folder: Folder) -> Manifest:
    """Read a folder's manifest. Raises DataError (3) if the folder is unfinished or the manifest is damaged."""
    path = join(folder, MANIFEST)
    data = read_if_exists(path)
    if data is None:
        raise DataError(
            f"{folder} is not a complete output of gptctl: {MANIFEST} is absent", "run the stage that makes it again"
        )
    try:
        found = json.loads(data)
        found = checked_json.without_checksum(found)
        StoredManifest.model_validate(found)
        return Manifest(
            found["kind"], found["stage"], found["config"], found["inputs"],
            tuple(Shard(**shard) for shard in found["shards"]), Counts.from_json(found["counts"]),
            found["metrics"], found["tokenizer"], tuple(Shard(rows=0, **file) for file in found["files"]),
        )  # fmt: skip
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path} is damaged", "run the stage that makes it again with --force") from error


def read_shard(folder: Folder, shard: Shard) -> bytes:
    """Read a shard and verify its checksum. Raises DataError (3) if it is missing, truncated or changed."""
    data = read_if_exists(join(folder, shard.path), shard.bytes)
    if data is None:
        raise damaged_shard(folder, f"shard is missing: {join(folder, shard.path)}")
    verify_shard(folder, shard, data)
    return data


def current_content(folder: Folder, split: str = "") -> str:
    """Return the `content` of a dataset, or of one split, as its manifest tells it now.

    Raises DataError (3) if the manifest is damaged, or if a shard of a local folder is missing or has changed. If the
    shards are very large together, only their sizes are compared here; readers compare the checksums.
    """
    found = read(folder).only(split) if split else read(folder)
    if not is_uri(folder):
        changed = set(changed_files(Path(folder), [shard.to_json() for shard in found.shards]))
        for shard in found.shards:
            if shard.path in changed:
                read_shard(folder, shard)  # which says what is wrong
    return found.content()


def verify_shard(folder: Folder, shard: Shard, data: bytes | memoryview) -> None:
    """Raise DataError (3) if the content of a shard's file is not what was written."""
    path = join(folder, shard.path)
    if len(data) < shard.bytes:
        raise damaged_shard(folder, f"shard is cut: {path} has {len(data)} of {shard.bytes} bytes")
    if len(data) > shard.bytes or xxhash.xxh3_128_hexdigest(data) != shard.xxh3_128:
        raise damaged_shard(folder, f"checksum mismatch: {path}")


def damaged_shard(folder: Folder, what: str) -> DataError:
    """Return the error of a damaged shard, whose hint names the command that makes the dataset again."""
    return DataError(what, f"make it again: gptctl {read(folder).stage} ... -o {folder} --force")
