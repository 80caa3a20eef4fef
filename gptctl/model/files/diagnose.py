"""Checks of the checkpoints and the model of a training run, and of a model folder, for `gptctl doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gptctl.core.errors import GptctlError
from gptctl.io.diagnose import Finding
from gptctl.io.lineage import Output
from gptctl.model.files import locate, model_manifest

BEST = "best"


def check_run(output: Output) -> Iterator[Finding]:
    """Yield what is wrong with the checkpoints and the model of a run.

    A bad checkpoint is damage only if there is no good one.
    """
    folder = Path(output.folder)
    kept = folder / "checkpoints"
    paths = sorted(path for path in kept.iterdir() if path.is_dir()) if kept.is_dir() else []
    bad = {path: problem for path in paths if (problem := find_problem(path, needs_manifest=True))}
    steps = [path for path in paths if path.name != BEST]
    lost = bool(steps) and all(path in bad for path in steps)
    for path, problem in bad.items():
        spare = "" if lost or path.name == BEST else ", an earlier one is used"
        yield Finding("damage" if lost or path.name == BEST else "note", str(path), problem + spare)
    model = folder / "model"
    if output.manifest is not None and not locate.is_model(model):
        yield Finding("damage", str(model), "the model is gone")
    elif locate.is_model(model):
        yield from check_model(model)


def check_model(folder: Path) -> Iterator[Finding]:
    """Yield what is wrong with a model folder."""
    if problem := find_problem(folder):
        yield Finding("damage", str(folder), problem)


def find_problem(folder: Path, needs_manifest: bool = False) -> str | None:
    """Return what is wrong with a folder of weights, or None. With `needs_manifest`, it must have a manifest.

    Files are compared with the manifest. Without one, the weights are read, which needs torch.
    """
    try:
        if needs_manifest or model_manifest.has_manifest(folder):
            model_manifest.verify(folder)
            return None
        from gptctl.model.files import tensor_files

        if locate.is_adapter(folder):
            tensor_files.read_tensors(folder / locate.ADAPTER[1])
            locate.adapter_base(folder)
        else:
            tensor_files.open_weights(folder)
    except GptctlError as error:
        return error.message
    return None
