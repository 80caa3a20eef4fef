"""The index of a sharded checkpoint: which file holds which part of each tensor.

torch.distributed.checkpoint finds this out by opening every file. With the index, which one rank writes, a rank opens
only the files with its own parts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)

from gptctl.core import atomic
from gptctl.core.errors import DataError
from gptctl.model.files.json_files import read_json
from gptctl.model.files.weight_files import is_file_name

SHARD_INDEX = "shard-index.json"
DTYPES = {str(dtype): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)}


class StoredPart(NamedTuple):
    """Where a part of a tensor is stored. The names of the fields are those that torch's reader uses."""

    relative_path: str
    shape: torch.Size
    dtype: torch.dtype


class IndexedReader(HuggingFaceStorageReader):
    """Reads a folder of safetensors files by its index, or without one by the headers of all files."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.folder = folder

    def read_metadata(self) -> Metadata:
        """Return what is stored where. Raises DataError (3) if the index is damaged."""
        if not (self.folder / SHARD_INDEX).exists():
            return super().read_metadata()
        stored = read_json(self.folder / SHARD_INDEX)
        metadata = Metadata(state_dict_metadata={}, storage_data={})
        try:
            for name, tensor in stored.items():
                add_tensor(metadata, self.folder, name, tensor)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            what = f"{self.folder / SHARD_INDEX} is damaged"
            raise DataError(what, "copy the folder again, or train again") from error
        metadata.storage_meta = StorageMeta(load_id=self.load_id)
        return metadata


def add_tensor(metadata: Metadata, folder: Path, name: str, tensor: dict[str, Any]) -> None:
    """Add a tensor's entry of the index to metadata. Raises ValueError for a file outside the folder."""
    dtype, chunks = DTYPES[tensor["dtype"]], []
    for file, offsets, shape in tensor["parts"]:
        if not is_file_name(file):
            raise ValueError(f"not a file of the folder: {file}")
        chunks.append(ChunkStorageMetadata(torch.Size(offsets), torch.Size(shape)))
        part = StoredPart(str(folder / file), torch.Size(shape), dtype)
        metadata.storage_data[MetadataIndex(name, torch.Size(offsets))] = part
    ends = [[at + length for at, length in zip(chunk.offsets, chunk.sizes, strict=True)] for chunk in chunks]
    size = torch.Size(max(lengths) for lengths in zip(*ends, strict=True))
    metadata.state_dict_metadata[name] = TensorStorageMetadata(TensorProperties(dtype), size, chunks)


def write_index(folder: Path) -> None:
    """Write the index of a folder, for which the header of each file is read."""
    index: dict[str, dict[str, Any]] = {}
    for entry, part in HuggingFaceStorageReader(str(folder)).read_metadata().storage_data.items():
        tensor = index.setdefault(entry.fqn, {"dtype": str(part.dtype), "parts": []})
        tensor["parts"].append([Path(part.relative_path).name, list(entry.offset or ()), list(part.shape)])
    atomic.write_json(folder / SHARD_INDEX, index)
