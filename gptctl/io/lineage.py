"""Lineage: trace an output back to the raw files, by the inputs and hashes that run.json records."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from gptctl.core.errors import DataError, GptctlError, UsageError
from gptctl.core.run_record import MANIFEST, RUN_RECORD
from gptctl.io.dataset import manifest
from gptctl.io.dataset.manifest import Manifest
from gptctl.io.files import plain_path, read_if_exists
from gptctl.io.hub.uri import is_hub
from gptctl.io.input.find import find_files
from gptctl.io.object_storage.address import is_uri, join
from gptctl.io.recognize import recognize, wrong_content

State = Literal["same", "changed", "gone", "unknown"]
Fingerprinter = Callable[[str], Mapping[str, str]]
FIRST_WORDS = {"base": ("model",), "data": manifest.SPLITS}  # of the names that finetune records, by role


@dataclass(frozen=True)
class Origin:
    """A path that an output was made from.

    `role` is the config key that named it (inputs, against, tokens, model, data ...). `fingerprints` are the hashes
    that were recorded of its content, by name. Its state is "same" if the content still has these hashes, and "unknown"
    if that was not checked.
    """

    role: str
    path: str
    fingerprints: dict[str, str]
    state: State
    output: Output | None = None


@dataclass(frozen=True)
class Output:
    """A folder that a stage made, with its run.json, its manifest if it is complete, and its origins."""

    folder: str
    record: dict[str, Any]
    manifest: Manifest | None
    origins: tuple[Origin, ...]

    @property
    def stage(self) -> str:
        """Return the name of the stage."""
        return str(self.record.get("stage") or (self.manifest.stage if self.manifest else "?"))

    @property
    def place(self) -> str:
        """Return the folder as an absolute path, or the URI: the same however the folder was named."""
        return self.folder if is_uri(self.folder) else str(Path(self.folder).absolute())


def trace(folder: str, fingerprints: Fingerprinter | None = None) -> Output:
    """Return an output with all its origins. Raises DataError (3) if the folder is not an output of gptctl.

    `fingerprints` returns the hashes of a path's content, to find out whether it has changed. Without it only the
    outputs of data stages are compared, by their manifests.
    """
    return _trace(folder, fingerprints, ())


def find(path: str) -> list[str]:
    """Return the outputs that a path names or contains.

    Raises UsageError (2) if the path does not exist, DataError (3) if there is no output.
    """
    path = plain_path(path)
    if is_uri(path):
        return [path]
    if not Path(path).exists():
        raise UsageError(
            f"no such file or folder: {path}", "PATH is the output of a stage, or a folder that holds some"
        )
    found = [path] if owner_of(path) == path else []
    records = (record for name in (RUN_RECORD, MANIFEST) for record in Path(path).rglob(name))
    below = sorted({str(record.parent) for record in records} - {path})
    found += [place for place in below if owner_of(place) == place]
    if not found:
        raise wrong_content(recognize(path), "output")
    return found


def walk(output: Output) -> list[Output]:
    """Return every output of a chain once, each after those that it was made from."""
    return [*walk_all(origin.output for origin in output.origins if origin.output), output]


def walk_all(outputs: Iterable[Output]) -> list[Output]:
    """Return every output of several chains once, each after those that it was made from."""
    found: dict[str, Output] = {}
    for output in outputs:
        for one in walk(output):
            found.setdefault(one.place, one)
    return list(found.values())


def _trace(folder: str, fingerprints: Fingerprinter | None, path: tuple[str, ...]) -> Output:
    record = manifest.record_of(folder)
    found = read_complete_manifest(folder)
    if not record and found is None:
        raise DataError(f"{folder} is not an output of gptctl", "name a folder that a stage wrote with -o")
    if folder in path:  # the record was edited: no run reads its own output
        return Output(folder, record, found, ())
    sources = [(role, place) for role, places in record.get("sources", {}).items() for place in places]
    recorded: dict[str, str] = record.get("inputs") or {}
    origins = [origin_of(role, place, recorded, len(sources), fingerprints, (*path, folder)) for role, place in sources]
    known = {name for origin in origins for name in origin.fingerprints}
    left = {name: value for name, value in recorded.items() if name not in known}
    bare = [number for number, origin in enumerate(origins) if not origin.fingerprints]
    if left and len(bare) == 1:
        origins[bare[0]] = replace(origins[bare[0]], fingerprints=left)
    elif left:
        origins.append(Origin("inputs", "", left, "unknown"))  # of older records, which name no places
    return Output(folder, record, found, tuple(origins))


def origin_of(
    role: str,
    place: str,
    recorded: dict[str, str],
    count: int,
    fingerprints: Fingerprinter | None,
    path: tuple[str, ...],
) -> Origin:
    """Return the origin at one of the `count` paths that were read.

    It selects the recorded hashes that belong to this path and checks whether the content still has them.
    """
    output = owner_of(place)
    if role == "tokenizer":  # its own hash is recorded, which is not that of a file
        now = tokenizer_hash(output) or hashes(place, None, None)
    else:
        now = hashes(place, output, fingerprints)
    held = {name: value for name, value in recorded.items() if now and value in now.values()}
    if count == 1:
        held = recorded
    elif not held:
        held = {name: value for name, value in recorded.items() if is_name_of(name, role, place)}
    state: State = "gone" if now is None else "unknown"
    if now:
        is_whole = set(now.values()) <= set(held.values())
        is_part = bool(held) and now.keys() >= set(manifest.SPLITS) and set(held.values()) <= set(now.values())
        state = "same" if is_whole or is_part or reads_some_splits(held, now) else "changed"
    return Origin(role, place, held, state, _trace(output, fingerprints, path) if output else None)


def is_name_of(name: str, role: str, place: str) -> bool:
    """Return whether a hash was recorded by a name that belongs to this role or place.

    Names such as "data/test.jsonl" and "against old.jsonl" begin with their role, those of finetune with what was read,
    and those of several inputs with the last parts of their place.
    """
    if name.replace("/", " ").split(" ")[0] in (role, *FIRST_WORDS.get(role, ())):
        return True
    parts = Path(place).parts
    return any(f"{name}/".startswith(f"{Path(*parts[first:])}/") for first in range(1, len(parts)))


def reads_some_splits(held: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Return whether what was read, such as "train/train.jsonl", is unchanged, and all else is of other splits."""
    read = {name.partition("/")[0] for name in held if "/" in name} & {*manifest.SPLITS}
    others = {
        manifest.SPLIT_NAMES.get(name.partition("/")[0].partition(".")[0].lower())
        for name, value in now.items()
        if value not in held.values()
    }
    return bool(read) and set(held.values()) <= set(now.values()) and others <= {*manifest.SPLITS} - read


def read_complete_manifest(folder: str) -> Manifest | None:
    """Return a complete output's manifest, or None if it is missing, damaged, or that of a model folder."""
    try:
        found = json.loads(read_if_exists(join(folder, MANIFEST)) or b"{}")
        return manifest.read(folder) if isinstance(found, dict) and "stage" in found else None
    except (ValueError, RecursionError, DataError):
        return None


def owner_of(path: str) -> str | None:
    """Return the output that a path names or lies in: RUN for RUN/checkpoints/best."""
    if path == "-" or is_hub(path):
        return None
    if is_uri(path):
        return path if is_output(path) else None
    for folder in (Path(path), *list(Path(path).parents)[:2]):
        if folder.is_dir() and is_output(str(folder)):
            return str(folder)
    return None


def is_output(folder: str) -> bool:
    """Return whether a folder has a run.json or a manifest of a command."""
    return bool(manifest.record_of(folder)) or read_complete_manifest(folder) is not None


def tokenizer_hash(output: str | None) -> Mapping[str, str] | None:
    """Return the hash of an output's tokenizer, by the name that tokenize records, or None if it has none."""
    found = read_complete_manifest(output) if output else None
    return {"tokenizer": found.tokenizer} if found and found.tokenizer else None


def hashes(path: str, output: str | None, fingerprints: Fingerprinter | None) -> Mapping[str, str] | None:
    """Return the current hashes of a path: None if it does not exist, and no hashes if it was not checked.

    A divided dataset has a hash of each split too, as a reader need not read all of them.
    """
    if path == "-" or is_hub(path):  # what the command line does not name is not asked for
        return {}
    found = read_complete_manifest(output) if output else None
    if found is not None and found.kind in ("documents", "tokens"):
        part = manifest.divided_dataset(path)
        if part:
            return {MANIFEST: found.only(part[1]).content()}
        by_split = {name: found.only(name).content() for name in manifest.SPLITS} if found.splits else {}
        return {MANIFEST: found.content()} | by_split
    try:
        if fingerprints is not None and not is_uri(path):
            return fingerprints(path)
        if output is None:
            find_files(path)
        return {}
    except GptctlError as error:
        return None if error.exit_code == 2 else {"unreadable": str(error)}
