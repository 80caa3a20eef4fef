"""The folder that a MODEL argument means. Needs no torch, so that a wrong path is reported at once."""

from __future__ import annotations

import json
from pathlib import Path

from gptctl.core.errors import DataError, UsageError
from gptctl.core.run_record import RUN_RECORD

ADAPTER = ("adapter_config.json", "adapter_model.safetensors")  # as the package peft names them
ADAPTER_EXTRA = "extra.json"  # of gptctl: what config.json of a model folder holds as extra
HINT = "MODEL is a run folder, one of its checkpoints, a model folder, or an adapter's"


def find_model(path: str) -> Path:
    """Return the model folder of MODEL: of a run folder, one of its checkpoints, a model folder, or an adapter's.

    Raises UsageError (2) for a missing path, DataError (3) for a folder without a model.
    """
    folder = Path(path)
    if not folder.exists():
        raise UsageError(f"no such model: {folder}", HINT)
    for candidate in (folder, folder / "model"):
        if is_model(candidate):
            return candidate
    if folder.is_dir():
        refuse_pickle(folder)
        if (folder / RUN_RECORD).exists():
            raise DataError(
                f"{folder} has no finished model", "run its training command again, or give one of its checkpoints"
            )
    raise DataError(f"{folder} is not a model", HINT)


def is_model(folder: Path) -> bool:
    """Return whether a folder itself contains a model or an adapter."""
    return (folder / "config.json").exists() or is_adapter(folder)


def is_adapter(folder: Path) -> bool:
    """Return whether a folder contains a low-rank update of another model."""
    return (folder / ADAPTER[0]).exists() and not any(folder.glob("model*.safetensors"))


def adapter_base(folder: Path) -> Path:
    """Return the model folder of an adapter's base.

    A relative path starts at the working directory or, if there is no such folder, at the adapter's folder.

    Raises DataError (3) if it is not on this machine.
    """
    try:
        named = json.loads((folder / ADAPTER[0]).read_bytes())["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{folder / ADAPTER[0]} names no base model", "copy it again from its source") from error
    for place in (Path(str(named)), folder / str(named)):
        if named and place.is_dir():
            return find_model(str(place))
    raise DataError(
        f"the base of {folder} is not on this machine: {named}",
        f"get it, and write its folder as base_model_name_or_path in {folder / ADAPTER[0]}",
    )


def refuse_pickle(folder: Path) -> None:
    """Raise DataError (3) if a folder has weights only as a pickle."""
    if any(folder.glob("*.safetensors")):
        return
    for path in sorted(folder.iterdir()):
        if path.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl"):
            raise DataError(
                f"{path} is a pickle", "pickle checkpoints can run code: convert it to safetensors where you trust it"
            )
