"""The folder that a MODEL argument means. Needs no torch, so that a wrong path is reported at once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from gptctl.core.context import ignore_message
from gptctl.core.errors import DataError, UsageError
from gptctl.core.regular_files import read_small
from gptctl.core.run_record import MANIFEST
from gptctl.io.hub.uri import HubUri, is_hub
from gptctl.io.recognize import is_pickle, recognize, wrong_content
from gptctl.model.files.hub_model import base_in_cache, fetch_model

ADAPTER = ("adapter_config.json", "adapter_model.safetensors")  # as the package peft names them
CHECKPOINTS = "checkpoints"
TRAINING = ("pretrain", "finetune")
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
ADAPTER_EXTRA = "extra.json"  # of gptctl: what config.json of a model folder holds as extra
HINT = "MODEL is a run folder, one of its checkpoints, a model folder, an adapter's, or hf://OWNER/NAME"


def find_model(
    path: str, tell: Callable[[str], None] = ignore_message, inform: Callable[[str], None] | None = None
) -> Path:
    """Return the model folder of MODEL: of a run folder, one of its checkpoints, a model folder, or an adapter's.

    A model of the hub is downloaded, and its folder lies in the hub's cache. For a run that is not finished it is the
    newest checkpoint. `tell` is called with a sentence that says so, and `inform`, or else `tell`, before a download.

    Raises UsageError (2) for a missing path, DataError (3) for a folder without a model.
    """
    if is_hub(path):
        path = str(fetch_model(HubUri.parse(path), inform or tell))
    folder = Path(path)
    if not folder.exists():
        if folder.name in ("model", "adapter") and (folder.parent / CHECKPOINTS).is_dir():
            raise UsageError(
                f"{folder.parent} is not finished and has no {folder.name} yet",
                f"name {folder.parent}: its newest checkpoint is used",
            )
        raise UsageError(f"no such model: {folder}", HINT)
    if found := model_in(folder):
        if found.parent == folder / CHECKPOINTS:
            tell(f"{folder} is not finished: its newest checkpoint is used, {found.name}")
        return found
    if folder.is_dir():
        refuse_pickle(folder)
    content = recognize(path)
    if content.kind == "run" or (content.kind == "unfinished" and content.stage in TRAINING):
        raise DataError(f"{folder} has no model and no checkpoint yet", f"run it again to go on: {content.command()}")
    raise wrong_content(content, "model")


def model_in(folder: Path) -> Path | None:
    """Return a folder's model: the folder itself, the model of a run, or its newest checkpoint. None if it has none."""
    for candidate in (folder, folder / "model"):
        if is_model(candidate):
            return candidate
    steps = [path for path in folder.glob(f"{CHECKPOINTS}/step-*") if (path / MANIFEST).exists() and is_model(path)]
    return max(steps, key=lambda path: int(path.name.removeprefix("step-")), default=None)


def is_model(folder: Path) -> bool:
    """Return whether a folder itself contains a model or an adapter."""
    return (folder / "config.json").exists() or is_adapter(folder)


def is_adapter(folder: Path) -> bool:
    """Return whether a folder contains a low-rank update of another model."""
    return (folder / ADAPTER[0]).exists() and not any(folder.glob("model*.safetensors"))


def adapter_base(folder: Path) -> Path:
    """Return the model folder of an adapter's base.

    A relative path starts at the working directory or, if there is no such folder, at the adapter's folder. A name of
    the hub is looked up in the hub's cache, and never downloaded, as the command line does not name it.

    Raises DataError (3) if it is not on this machine.
    """
    try:
        values = json.loads(read_small(folder / ADAPTER[0]))
        named = values["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{folder / ADAPTER[0]} names no base model", "copy it again from its source") from error
    for place in (Path(str(named)), folder / str(named)):
        if named and place.is_dir():
            return find_model(str(place))
    if HUB_NAME.fullmatch(str(named)):
        revision = str(values.get("revision") or "main")
        if found := base_in_cache(str(named), revision):
            return find_model(str(found))
        uri = HubUri("model", str(named), revision)
        raise DataError(f"the base of {folder} is not on this machine: {named}", f"download it: gptctl inspect {uri}")
    raise DataError(
        f"the base of {folder} is not on this machine: {named}",
        f"get it, and write its folder as base_model_name_or_path in {folder / ADAPTER[0]}",
    )


def refuse_pickle(folder: Path) -> None:
    """Raise DataError (3) if a folder has weights only as a pickle."""
    if any(folder.glob("*.safetensors")):
        return
    for path in sorted(folder.iterdir()):
        is_of_torch = path.name.startswith("pytorch_model") or path.suffix != ".bin"
        if path.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl") and (is_of_torch or is_pickle(str(path))):
            raise DataError(
                f"{path} is a pickle", "pickle checkpoints can run code: convert it to safetensors where you trust it"
            )
