"""Which folder a MODEL argument means. Needs no torch, so that a wrong path is told at once."""

from __future__ import annotations

from pathlib import Path

from gptctl.core.errors import DataError, UsageError


def find_model(path: str) -> Path:
    """Give the model folder that MODEL names: a run folder, one of its checkpoints, or a model folder.

    Raises UsageError (2) for a missing path, DataError (3) for a folder without a model.
    """
    folder = Path(path)
    if not folder.exists():
        raise UsageError(f"no such model: {folder}", "MODEL is a run folder, one of its checkpoints, or a model folder")
    for candidate in (folder, folder / "model"):
        if (candidate / "config.json").exists():
            return candidate
    if folder.is_dir():
        refuse_pickle(folder)
        if (folder / "run.json").exists():
            raise DataError(
                f"{folder} holds no finished model", "run its training command again, or name one of its checkpoints"
            )
    raise DataError(f"{folder} is not a model", "MODEL is a run folder, one of its checkpoints, or a model folder")


def refuse_pickle(folder: Path) -> None:
    """Raise DataError (3) if the weights are there only as a pickle."""
    if (folder / "model.safetensors").exists():
        return
    for path in sorted(folder.iterdir()):
        if path.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl"):
            raise DataError(
                f"{path} is a pickle", "pickle checkpoints can run code: convert it to safetensors where you trust it"
            )
