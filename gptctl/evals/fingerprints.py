"""Fingerprints of what a path names: a model, a dataset, or files."""

from __future__ import annotations

from pathlib import Path

from gptctl.core.run_record import MANIFEST
from gptctl.io.dataset import manifest
from gptctl.io.files import content_hash
from gptctl.io.hub.uri import HubUri, is_hub
from gptctl.io.input.find import find_files


def fingerprints_of(path: str) -> dict[str, str]:
    """Return the hash of a model's files, of a dataset's manifest, or of each file."""
    if is_model(path):
        from gptctl.model.files import model_manifest
        from gptctl.model.files.locate import find_model

        return {"model": model_manifest.model_fingerprint(find_model(path))}
    if manifest.is_ours(path):
        return {MANIFEST: manifest.current_content(path)}
    if part := manifest.divided_dataset(path):
        return {MANIFEST: manifest.current_content(*part)}
    return {file.name: content_hash(file.path) for file in find_files(path)}


def is_model(path: str) -> bool:
    """Return whether a path is a model, not predictions."""
    if is_hub(path):
        return HubUri.parse(path).kind == "model"
    from gptctl.model.files import locate

    return locate.model_in(Path(path)) is not None
