"""Read and write the tensors of safetensors files. Only safetensors are read: a pickle can run code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import torch
from safetensors import SafetensorError
from torch import Tensor

from gptctl.core import atomic
from gptctl.core.errors import DataError, from_os_error
from gptctl.core.regular_files import check_regular
from gptctl.model.files.lazy_tensor import LazyTensor
from gptctl.model.files.weight_files import INDEX, WEIGHTS, is_sharded, read_index, weight_files

HEADER_ALIGNMENT = 8
# By the names of safetensors, which writes the types with the largest numbers first.
DTYPE_NAMES = {
    torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.int16: "I16", torch.float16: "F16",
    torch.bfloat16: "BF16", torch.int32: "I32", torch.float32: "F32", torch.float64: "F64", torch.int64: "I64",
}  # fmt: skip
LENGTH_BYTES = 8  # of the number before the header
DTYPES = list(DTYPE_NAMES)


def write_tensors(path: Path, tensors: Mapping[str, Tensor | LazyTensor]) -> None:
    """Write a safetensors file, one tensor after the other. Call it inside `atomic_folder`.

    The bytes are those that the package safetensors writes. It takes all tensors at once.
    """
    names = sorted(tensors, key=lambda name: (-DTYPES.index(tensors[name].dtype), name))
    ends = list(accumulate((tensors[name].nbytes for name in names), initial=0))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    for name, start, end in zip(names, ends, ends[1:], strict=False):
        dtype = DTYPE_NAMES[tensors[name].dtype]
        header[name] = {"dtype": dtype, "shape": list(tensors[name].shape), "data_offsets": [start, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % HEADER_ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(LENGTH_BYTES, "little") + text)
        for name in names:
            stored = tensors[name]
            tensor = stored.read() if isinstance(stored, LazyTensor) else stored
            file.write(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)


def write_weights(folder: Path, tensors: Mapping[str, Tensor | LazyTensor], max_bytes: int = 0) -> None:
    """Write weights into one file, or into several of at most `max_bytes` if that is not 0.

    A larger tensor gets a file by itself. The names of files and index are those of transformers.
    """
    parts: list[dict[str, Tensor | LazyTensor]] = [{}]
    filled = 0
    for name, tensor in tensors.items():
        size = tensor.nbytes
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
    total = sum(tensor.nbytes for tensor in tensors.values())
    atomic.write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": places})


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file. Raises DataError (3) if it is missing or damaged."""
    with open_file(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)


def open_tensors(path: Path) -> dict[str, LazyTensor]:
    """Return the tensors of a safetensors file, to be read later. Raises DataError (3) if it is missing or damaged."""
    views = read_tensors(path)  # which checks the header; of the mapped file nothing else is read
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        header = json.loads(file.read(length))
    found = {}
    for name, view in views.items():
        start = LENGTH_BYTES + length + header[name]["data_offsets"][0]
        found[name] = LazyTensor(view.shape, view.dtype, partial(read_at, path, start, view.shape, view.dtype))
    return found


def read_at(path: Path, start: int, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Return the tensor at a place of a file. Raises DataError (3) if it cannot be read whole.

    It is memory of its own. A view of a mapped file would count as memory beside what is computed from it.
    """
    tensor = torch.empty(shape, dtype=dtype)
    target = tensor.view(-1).view(torch.uint8).numpy()
    try:
        with path.open("rb") as file:
            file.seek(start)
            count = file.readinto(target.data)
    except OSError as error:
        raise from_os_error(error, path) from error
    if count != target.nbytes:
        raise DataError(f"{path} has become shorter", "copy it again from its source")
    return tensor


@contextmanager
def open_file(path: Path) -> Iterator[Any]:
    """Open a safetensors file. Raises DataError (3) if it is missing or damaged."""
    check_regular(path)
    try:
        with safetensors.safe_open(path, "pt") as file:
            yield file
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing", "give a folder with a complete model") from error
    except SafetensorError as error:
        raise DataError(f"{path} is not a safetensors file: {error}", "copy it again from its source") from error
    except OSError as error:
        raise from_os_error(error, path) from error


def open_weights(folder: Path) -> dict[str, LazyTensor]:
    """Return the weights of a folder, in any layout, to be read later.

    Raises DataError (3) if there are none, if two files have the same tensor, or if a file lacks what the index says.
    """
    if is_sharded(folder):
        return open_shards(folder)
    found: dict[str, LazyTensor] = {}
    places: dict[str, str] = {}
    for file in weight_files(folder):
        opened = open_tensors(file)
        if twice := sorted(found.keys() & opened.keys()):
            raise DataError(
                f"{folder / places[twice[0]]} and {file.name} both have the tensor {twice[0]}",
                "copy the folder again, without files of other models",
            )
        found |= opened
        places |= dict.fromkeys(opened, file.name)
    for name, place in read_index(folder).items():
        if places.get(name) != place:
            raise DataError(f"{folder / place} has no tensor {name}, which {INDEX} says", "copy the folder again")
    return found


def open_shards(folder: Path) -> dict[str, LazyTensor]:
    """Return the weights of a folder with a file per rank, to be read later."""
    return {
        name: LazyTensor(tensor.shape, tensor.dtype, partial(read_pieces, name, tensor))
        for name, tensor in find_pieces(folder).items()
    }


class PiecedTensor(NamedTuple):
    """A tensor whose parts are in several files."""

    shape: torch.Size
    dtype: torch.dtype
    pieces: list[tuple[Path, tuple[slice, ...]]]  # each with its place in the tensor


def find_pieces(folder: Path) -> dict[str, PiecedTensor]:
    """Return where the weights of a folder with a file per rank are. No file is opened if there is an index."""
    from torch.distributed.checkpoint.metadata import MetadataIndex, TensorStorageMetadata

    from gptctl.model.files.shard_index import IndexedReader

    metadata = IndexedReader(folder).read_metadata()
    found = {}
    for name, stored in metadata.state_dict_metadata.items():
        if not isinstance(stored, TensorStorageMetadata) or name[0].isdigit():
            continue
        tensor = found[name] = PiecedTensor(stored.size, stored.properties.dtype, [])
        for chunk in stored.chunks:
            file = metadata.storage_data[MetadataIndex(name, chunk.offsets)].relative_path
            places = zip(chunk.offsets, chunk.sizes, strict=True)
            tensor.pieces.append((Path(file), tuple(slice(offset, offset + size) for offset, size in places)))
    return found


def read_pieces(name: str, tensor: PiecedTensor) -> Tensor:
    """Read one tensor from the files that hold its parts."""
    found = torch.empty(tensor.shape, dtype=tensor.dtype)
    for path, place in tensor.pieces:
        with open_file(path) as file:
            found[place] = file.get_tensor(name)
    return found
