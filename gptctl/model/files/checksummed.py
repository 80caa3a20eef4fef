"""Folders of tensors and JSON whose manifest, written last, carries each file's size and xxh3-128: shared by RUN/model
and RUN/checkpoints. Only safetensors are read: pickle checkpoints can run code.

The weights are in model.safetensors; or in several files, each with some tensors, that model.safetensors.index.json
lists, as transformers writes large models; or in shards: files by torch.distributed.checkpoint's
HuggingFaceStorageWriter, one per rank, each with its rows of every tensor and where they belong. Shards of a checkpoint
hold the optimizer's state too, under names that begin with a number.
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
from gptctl.core.rundir import MANIFEST
from gptctl.io.dataset import checked_json
from gptctl.io.dataset.manifest import StoredShard
from gptctl.model.files import locate

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
CARD = "README.md"  # people edit it, so no checksum is kept
SHARDS = "shard-*.safetensors"
DESCRIPTIONS = ("config.json", "tokenizer.json", "vocab.json", "merges.txt", "generation_config.json")
BLOCK_BYTES = 2**22


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file. Call it inside `atomic_folder`. Raises OSError where the system refuses."""
    try:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path, {"format": "pt"})
    except SafetensorError as error:  # it hides the errno in its words
        number = re.search(r"os error (\d+)", str(error))
        raise OSError(int(number[1]) if number else errno.EIO, str(error), str(path)) from error
    path.chmod(path.parent.stat().st_mode & 0o666)  # safetensors lets nobody else read it


def write_weights(folder: Path, tensors: dict[str, Tensor], max_bytes: int = 0) -> None:
    """Write weights as one file, or with `max_bytes` as files of at most that size, a larger tensor by itself.

    The names of files and index are those of transformers.
    """
    parts: list[dict[str, Tensor]] = [{}]
    filled = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        if max_bytes and parts[-1] and filled + size > max_bytes:
            parts.append({})
            filled = 0
        parts[-1][name] = tensor
        filled += size
    if len(parts) == 1:
        write_tensors(folder / WEIGHTS, tensors)
        return
    places: dict[str, str] = {}
    for number, part in enumerate(parts, start=1):
        file = f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        write_tensors(folder / file, part)
        places |= dict.fromkeys(part, file)
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    atomic.write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": places})


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
    """Return whether the weights are in shards, one per rank."""
    return not (folder / WEIGHTS).exists() and any(folder.glob(SHARDS))


def weight_files(folder: Path) -> list[Path]:
    """List the files that hold the weights. Raises DataError (3) for an index that names none, or files elsewhere."""
    if is_sharded(folder):
        return sorted(folder.glob(SHARDS))
    if (folder / WEIGHTS).exists() or not (folder / INDEX).exists():
        return [folder / WEIGHTS]
    places = read_json(folder / INDEX).get("weight_map")
    names = list(places.values()) if isinstance(places, dict) else []
    if not names or not all(name and name == Path(str(name)).name for name in names):
        raise DataError(f"{folder / INDEX} lists no files of this folder", "copy it again from its source")
    return [folder / name for name in sorted(set(names))]


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read a folder's weights, whole, in any layout. Raises DataError (3) if there are none."""
    if not is_sharded(folder):
        files = weight_files(folder)
        if len(files) > 1:
            return {name: tensor for file in files for name, tensor in read_tensors(file).items()}
        return read_tensors(files[0])
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
    """Return the checksum of a folder's weights; of several files, the checksum of their checksums.

    Of an adapter, it is that of the adapter's files and of the base's.
    """
    if locate.is_adapter(folder):
        files = [folder / name for name in locate.ADAPTER]
        return combined([checksum(file) for file in files] + [fingerprint(locate.base_of(folder))])
    files = weight_files(folder)
    if is_sharded(folder):
        known = {entry.path: entry.xxh3_128 for entry in listed(folder)}
        return combined([known.get(path.name) or checksum(path) for path in files])
    return checksum(files[0]) if len(files) == 1 else combined([checksum(file) for file in files])


def identity(folder: Path) -> str:
    """Hash all of a folder that answers depend on: weights, config, tokenizer; of an adapter, the base's too."""
    parts = [fingerprint(folder)]
    parts += [checksum(folder / name) for name in DESCRIPTIONS if (folder / name).exists()]
    if locate.is_adapter(folder):
        parts.append(identity(locate.base_of(folder)))
    return combined(parts, " ")


def combined(checksums: list[str], between: str = "") -> str:
    """Hash several checksums."""
    return xxhash.xxh3_128_hexdigest(between.join(checksums).encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises DataError (3) if it is none."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing", "name a folder with a complete model") from error
    except (ValueError, RecursionError) as error:
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
        if path.name != CARD
    ]
    checked_json.write(folder / MANIFEST, {"kind": kind, "schema": 1, "files": files})


def is_sealed(folder: Path) -> bool:
    """Return whether a folder has a manifest of ours; other programs' folders have none."""
    return (folder / MANIFEST).exists() and "kind" in read_json(folder / MANIFEST)


def verify(folder: Path) -> None:
    """Compare every listed file with its size and checksum. Raises DataError (3) that names the first bad one.

    The manifest is that of `seal`, or that of a stage, which lists what it exported as shards.
    """
    for entry in listed(folder):
        path = folder / entry.path
        if not path.is_file():
            raise DataError(f"{path} is missing", "copy the folder again, or train again")
        if path.stat().st_size != entry.bytes or checksum(path) != entry.xxh3_128:
            raise DataError(f"checksum mismatch: {path}", "copy the folder again, or train again")


def listed(folder: Path) -> list[StoredShard]:
    """Return what a folder's manifest lists. Raises DataError (3) if it is damaged."""
    found = read_json(folder / MANIFEST)
    try:
        whole = checked_json.without_checksum(found) if checked_json.CHECKSUM in found else found
        files = whole["files"] if "files" in whole else whole["shards"]
        return [StoredShard.model_validate({"rows": 0, **entry}) for entry in files]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / MANIFEST} is damaged", "copy the folder again, or train again") from error


def checksum(path: Path) -> str:
    """Hash a file with xxh3-128, block by block."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
