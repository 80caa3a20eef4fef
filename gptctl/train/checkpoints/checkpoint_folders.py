"""The checkpoint folders of a run: their names, which are valid, and which are removed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Container
from pathlib import Path

from gptctl.core.errors import DataError, GptctlError
from gptctl.model.files import model_manifest

BEST = "best"
STEP_PREFIX = "step-"


def step_folder(checkpoints: Path, step: int) -> Path:
    """Return the folder of the checkpoint of a step."""
    return checkpoints / f"{STEP_PREFIX}{step:06d}"


def step_of(folder: Path) -> int:
    """Return the step of a checkpoint's folder."""
    return int(folder.name.removeprefix(STEP_PREFIX))


def list_checkpoints(checkpoints: Path) -> list[Path]:
    """Return the folders of all checkpoints by step, the oldest first."""
    found = [path for path in checkpoints.glob(f"{STEP_PREFIX}*") if path.name.removeprefix(STEP_PREFIX).isdigit()]
    return sorted(found, key=step_of)


def latest_valid(run: Path, warn: Callable[[str], None] | None = None) -> Path | None:
    """Return the newest checkpoint of a run whose checksums match, and warn of newer ones that are damaged."""
    for path in reversed(list_checkpoints(run / "checkpoints")):
        try:
            model_manifest.verify(path)
        except GptctlError as error:
            if warn:
                warn(f"skipping damaged {path.name}: {error.message}")
            continue
        return path
    return None


def best_or_latest(run: Path) -> Path:
    """Return the verified folder of the best evaluation, or the newest valid checkpoint if there was no evaluation.

    Raises DataError (3) if it is damaged, or if there is none.
    """
    best = run / "checkpoints" / BEST
    if best.exists():
        model_manifest.verify(best)
        return best
    found = latest_valid(run)
    if found is None:
        raise DataError(f"no checkpoint found in {run}", "train first: gptctl pretrain")
    return found


def prune(checkpoints: Path, keep: int, verified: Container[Path] = ()) -> None:
    """Remove all but the newest `keep` valid checkpoints. Damaged ones do not count and are removed too.

    Folders in `verified` count as valid without being read again.
    """
    kept = 0
    for path in reversed(list_checkpoints(checkpoints)):
        if kept < keep:
            try:
                if path not in verified:
                    model_manifest.verify(path)
                kept += 1
                continue
            except GptctlError:
                pass
        shutil.rmtree(path)
