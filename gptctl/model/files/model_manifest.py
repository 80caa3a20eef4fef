"""The manifest of a folder of weights, written last, and the checksums and fingerprints of its files.

RUN/model and RUN/checkpoints have one: the size and the xxh3-128 of each file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import xxhash

from gptctl.core import checked_json
from gptctl.core.errors import DataError
from gptctl.core.run_record import MANIFEST
from gptctl.core.written_files import CARD, file_hash
from gptctl.io.dataset.manifest import StoredShard
from gptctl.io.files import content_hash
from gptctl.model.files import locate
from gptctl.model.files.json_files import read_json
from gptctl.model.files.weight_files import is_sharded, weight_files
from gptctl.model.hf.files import files_read


def weights_fingerprint(folder: Path) -> str:
    """Return the checksum of a folder's weights. Several files have a checksum of their checksums.

    That of an adapter includes the weights of its base.
    """
    if locate.is_adapter(folder):
        files = [folder / name for name in locate.ADAPTER]
        return combine([content_hash(str(file)) for file in files] + [weights_fingerprint(locate.adapter_base(folder))])
    hashes = [content_hash(str(file)) for file in weight_files(folder)]
    return combine(hashes) if is_sharded(folder) or len(hashes) > 1 else hashes[0]


def model_fingerprint(folder: Path) -> str:
    """Return a hash of all that a model's output depends on: weights, config, tokenizer, and the base of an adapter."""
    parts = [weights_fingerprint(folder)]
    names = ("config.json", *files_read(folder), *(locate.ADAPTER_EXTRA,) * locate.is_adapter(folder))
    parts += [f"{name} {content_hash(str(folder / name))}" for name in names if (folder / name).exists()]
    if locate.is_adapter(folder):
        parts.append(model_fingerprint(locate.adapter_base(folder)))
    return combine(parts, " ")


def files_of(folder: Path) -> list[Path]:
    """List the files that `model_fingerprint` reads."""
    found = [folder / name for name in ("config.json", *files_read(folder))]
    if not locate.is_adapter(folder):
        return found + weight_files(folder)
    found += [folder / name for name in (*locate.ADAPTER, locate.ADAPTER_EXTRA)]
    return found + files_of(locate.adapter_base(folder))


def fingerprint(folder: Path) -> dict[str, str]:
    """Return the hash of a model under the name that run.json has for it."""
    return {"model": model_fingerprint(folder)}


def combine(checksums: list[str], between: str = "") -> str:
    """Return the hash of several checksums."""
    return xxhash.xxh3_128_hexdigest(between.join(checksums).encode())


def write_manifest(folder: Path, kind: str, checksums: Mapping[str, str] | None = None) -> None:
    """Write the manifest of all files in `folder`. Files whose checksums are given are not read."""
    known = checksums or {}
    files = [
        {"path": path.name, "bytes": path.stat().st_size, "xxh3_128": known.get(path.name) or file_hash(path)}
        for path in sorted(folder.iterdir())
        if path.name != CARD
    ]
    checked_json.write(folder / MANIFEST, {"kind": kind, "schema": 1, "files": files})


def has_manifest(folder: Path) -> bool:
    """Return whether a folder has a manifest of gptctl. Folders of other programs do not."""
    return (folder / MANIFEST).exists() and "kind" in read_json(folder / MANIFEST)


def verify(folder: Path, part: int = 0, parts: int = 1) -> None:
    """Compare each file with its size and checksum in the manifest. Raises DataError (3) that names the first bad one.

    The manifest is that of `write_manifest`, or that of the stage export, which lists its files as shards. Several
    processes can share the files out: process `part` of `parts` verifies the shard of the rank of that number.
    """
    entries = sorted(read_manifest(folder), key=lambda entry: (not entry.path.startswith("shard-0"), entry.path))
    for entry in entries[part::parts]:
        path = folder / entry.path
        if not path.is_file():
            raise DataError(f"{path} is missing", "copy the folder again, or train again")
        if path.stat().st_size != entry.bytes or file_hash(path) != entry.xxh3_128:
            raise DataError(f"checksum mismatch: {path}", "copy the folder again, or train again")


def read_manifest(folder: Path) -> list[StoredShard]:
    """Return the entries of a folder's manifest. Raises DataError (3) if it is damaged."""
    found = read_json(folder / MANIFEST)
    try:
        whole = checked_json.without_checksum(found) if checked_json.CHECKSUM in found else found
        files = [*whole.get("shards", ()), *whole["files"]]
        return [StoredShard.model_validate({"rows": 0, **entry}) for entry in files]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / MANIFEST} is damaged", "copy the folder again, or train again") from error
