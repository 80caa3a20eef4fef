"""What a path on the command line names, a model, a dataset or files, and the hash of what is there."""

from __future__ import annotations

from pathlib import Path

from gptctl.core.run_record import MANIFEST
from gptctl.io.dataset import manifest
from gptctl.io.files import content_hash
from gptctl.io.input.find import find_files


def prints_of(path: str) -> dict[str, str]:
    """Hash a model's weights, a dataset by its manifest, or files."""
    if is_model(path):
        from gptctl.model.files import checksummed
        from gptctl.model.files.locate import find_model

        return {"model": checksummed.model_fingerprint(find_model(path))}
    if manifest.is_ours(path):
        return {MANIFEST: manifest.read(path).content()}
    return {file.name: content_hash(file.path) for file in find_files(path)}


def is_model(path: str) -> bool:
    """Return whether a path is a model, not predictions."""
    from gptctl.model.files import locate

    return any(locate.is_model(folder) for folder in (Path(path), Path(path) / "model"))
