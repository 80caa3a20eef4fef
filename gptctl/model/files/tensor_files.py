"""The safetensors files that hold a model's weights: one file, several with an index, or one shard per rank.

Only safetensors are read: a pickle can run code.

The weights are in model.safetensors; or in several files, each with some tensors, that model.safetensors.index.json
lists, as transformers writes large models; or in shards: files by torch.distributed.checkpoint's
HuggingFaceStorageWriter, one per rank, each with its rows of every tensor and where they belong. The shards of a
checkpoint hold the optimizer's state too, under names that begin with a number.
"""

from __future__ import annotations

import errno
import re
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gptctl.core import atomic
from gptctl.core.errors import DataError, from_os_error
from gptctl.model.files.json_files import read_json

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARDS = "shard-*.safetensors"


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file. Call it inside `atomic_folder`. Raises OSError if the system refuses."""
    try:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path, {"format": "pt"})
    except SafetensorError as error:  # it has the errno in its text only
        number = re.search(r"os error (\d+)", str(error))
        raise OSError(int(number[1]) if number else errno.EIO, str(error), str(path)) from error
    path.chmod(path.parent.stat().st_mode & 0o666)  # safetensors makes it readable by its owner only


def write_weights(folder: Path, tensors: dict[str, Tensor], max_bytes: int = 0) -> None:
    """Write weights into one file, or into several of at most `max_bytes` if that is not 0.

    A larger tensor gets a file by itself. The names of files and index are those of transformers.
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
    """Return the tensors of a safetensors file. Raises DataError (3) if it is missing or damaged."""
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing", "give a folder with a complete model") from error
    except SafetensorError as error:
        raise DataError(f"{path} is not a safetensors file: {error}", "copy it again from its source") from error
    except OSError as error:
        raise from_os_error(error, path) from error


def is_sharded(folder: Path) -> bool:
    """Return whether the weights are in shards, one per rank."""
    return not (folder / WEIGHTS).exists() and any(folder.glob(SHARDS))


def weight_files(folder: Path) -> list[Path]:
    """List the files of the weights.

    Raises DataError (3) if the index names no files, or files outside the folder.
    """
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
    """Return all weights of a folder, in any layout. Raises DataError (3) if there are none."""
    if not is_sharded(folder):
        files = weight_files(folder)
        if len(files) > 1:
            return {name: tensor for file in files for name, tensor in read_tensors(file).items()}
        return read_tensors(files[0])
    from torch.distributed.checkpoint import state_dict_loader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    from gptctl.model.files.shard_index import IndexedReader

    reader = IndexedReader(folder)
    tensors = {
        name: torch.empty(stored.size, dtype=stored.properties.dtype)
        for name, stored in reader.read_metadata().state_dict_metadata.items()
        if isinstance(stored, TensorStorageMetadata) and not name[0].isdigit()
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about reading in a single process, as intended here
        state_dict_loader.load(tensors, storage_reader=reader, no_dist=True)
    return tensors
