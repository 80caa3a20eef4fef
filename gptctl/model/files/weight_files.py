"""The files that hold a model's weights: one file, several with an index, or one shard per rank. Needs no torch.

The weights are in model.safetensors; or in several files, each with some tensors, that model.safetensors.index.json
lists, as transformers writes large models; or in shards: files by torch.distributed.checkpoint's
HuggingFaceStorageWriter, one per rank, each with its rows of every tensor and where they belong. The shards of a
checkpoint hold the optimizer's state too, under names that begin with a number.
"""

from __future__ import annotations

from pathlib import Path

from gptctl.core.errors import DataError
from gptctl.model.files.json_files import read_json

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARDS = "shard-*.safetensors"


def is_sharded(folder: Path) -> bool:
    """Return whether the weights are in shards, one per rank."""
    return not (folder / WEIGHTS).exists() and any(folder.glob(SHARDS))


def weight_files(folder: Path) -> list[Path]:
    """List the files of the weights.

    Raises DataError (3) if the index names no files, or files outside the folder.
    """
    if is_sharded(folder):
        return sorted(folder.glob(SHARDS))
    return [folder / name for name in sorted(set(read_index(folder).values()))] or [folder / WEIGHTS]


def read_index(folder: Path) -> dict[str, str]:
    """Return the file of each tensor by the index, which counts only without a model.safetensors.

    Raises DataError (3) if the index names no files, or files outside the folder.
    """
    if (folder / WEIGHTS).exists() or not (folder / INDEX).exists():
        return {}
    places = read_json(folder / INDEX).get("weight_map")
    places = places if isinstance(places, dict) else {}
    if not places or not all(isinstance(name, str) and is_file_name(name) for name in places.values()):
        raise DataError(f"{folder / INDEX} lists no files of this folder", "copy it again from its source")
    return places


def is_file_name(name: str) -> bool:
    """Return whether a text is the name of a file in a folder, not a path."""
    return name not in ("", ".", "..") and name == Path(name).name and "\0" not in name
