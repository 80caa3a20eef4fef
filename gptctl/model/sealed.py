"""Folders of tensors and JSON whose manifest, written last, carries each file's size and xxh3-128: shared by RUN/model
and RUN/checkpoints. Only safetensors are read: pickle checkpoints can run code.

The weights are in model.safetensors, or in shards: files by torch.distributed.checkpoint's HuggingFaceStorageWriter,
one per rank, each with its rows of every tensor and where they belong. Shards of a checkpoint hold the optimizer's
state too, under names that begin with a number.
"""

from __future__ import annotations

import errno
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gptctl.core import atomic
from gptctl.core.errors import DataError, from_os_error

MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
SHARDS = "shard-*.safetensors"
BLOCK_BYTES = 2**22


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file. Call it inside `atomic_folder`. Raises OSError where the system refuses."""
    try:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path, {"format": "pt"})
    except SafetensorError as error:  # it hides the errno in its words
        number = re.search(r"os error (\d+)", str(error))
        raise OSError(int(number[1]) if number else errno.EIO, str(error), str(path)) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file. Raises DataError (3) if it is none."""
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing", "name a folder with a complete model") from error
    except SafetensorError as error:
        raise DataError(f"{path} is not a safetensors file: {error}", "copy it again from its source") from error
    except OSError as error:
        raise from_os_error(error, path) from error


def is_sharded(folder: Path) -> bool:
    """Tell whether the weights are in shards."""
    return not (folder / WEIGHTS).exists() and any(folder.glob(SHARDS))


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read a folder's weights, whole, in either layout. Raises DataError (3) if there are none."""
    if not is_sharded(folder):
        return read_tensors(folder / WEIGHTS)
    from torch.distributed.checkpoint import state_dict_loader
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    reader = HuggingFaceStorageReader(str(folder))
    tensors = {
        name: torch.empty(stored.size, dtype=stored.properties.dtype)
        for name, stored in reader.read_metadata().state_dict_metadata.items()
        if isinstance(stored, TensorStorageMetadata) and not name[0].isdigit()
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that one process reads for itself, which is what we want
        state_dict_loader.load(tensors, storage_reader=reader, no_dist=True)
    return tensors


def fingerprint(folder: Path) -> str:
    """Give the checksum of a folder's weights, or of its shards' checksums."""
    if not is_sharded(folder):
        return checksum(folder / WEIGHTS)
    listed = {entry["path"]: entry["xxh3_128"] for entry in read_json(folder / MANIFEST)["files"]}
    return xxhash.xxh3_128_hexdigest("".join(listed[path.name] for path in sorted(folder.glob(SHARDS))).encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises DataError (3) if it is none."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing", "name a folder with a complete model") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}", "copy it again from its source") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} holds no JSON object", "copy it again from its source")
    return value


def seal(folder: Path, kind: str, checksums: Mapping[str, str] | None = None) -> None:
    """Write the manifest of everything in `folder`. Files whose checksums are known are not read again."""
    known = checksums or {}
    files = [
        {"path": path.name, "bytes": path.stat().st_size, "xxh3_128": known.get(path.name) or checksum(path)}
        for path in sorted(folder.iterdir())
    ]
    atomic.write_json(folder / MANIFEST, {"kind": kind, "schema": 1, "files": files})


def verify(folder: Path) -> None:
    """Compare every listed file with its size and checksum. Raises DataError (3) that names the first bad one."""
    for entry in read_json(folder / MANIFEST)["files"]:
        path = folder / entry["path"]
        if not path.is_file():
            raise DataError(f"{path} is missing", "copy the folder again, or train again")
        if path.stat().st_size != entry["bytes"] or checksum(path) != entry["xxh3_128"]:
            raise DataError(f"checksum mismatch: {path}", "copy the folder again, or train again")


def checksum(path: Path) -> str:
    """Hash a file with xxh3-128, block by block."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
