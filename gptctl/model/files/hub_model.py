"""Models of the Hugging Face hub: the files of a repository that a model needs, downloaded to the hub's cache."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gptctl.core.errors import DataError, UsageError
from gptctl.core.formatting import format_bytes
from gptctl.core.regular_files import read_small
from gptctl.core.run_record import MANIFEST
from gptctl.io.hub import client
from gptctl.io.hub.client import HubFile
from gptctl.io.hub.data_files import named
from gptctl.io.hub.uri import HubUri
from gptctl.model.files.weight_files import INDEX, WEIGHTS, is_file_name

ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5")
PARALLEL = 8


def fetch_model(place: HubUri, tell: Callable[[str], None]) -> Path:
    """Return the folder of the cache that has a model of the hub. What it lacks of the model is downloaded.

    No pickle and no code is downloaded. `tell` is called with a sentence if there is something to download.

    Raises UsageError (2) for a dataset or a path that does not exist, DataError (3) for a repository without weights in
    safetensors, MachineError (4) if the hub refuses or does not answer.
    """
    if place.kind != "model":
        raise UsageError(f"{place} is a dataset, not a model", "models are named without datasets/")
    place = client.pin(place)
    inner = in_folder(place, "model")
    if client.file_at(in_folder(inner, "config.json")) and not client.file_at(in_folder(place, "config.json")):
        place = inner  # of a run, which has its model in this folder
    start = f"{place.path}/" if place.path else ""
    present = {f.path[len(start) :]: f for f in client.files_below(place) if "/" not in f.path[len(start) :]}
    if not present:
        raise UsageError(f"no such folder: {place}", f"the repository has {named(client.files_below(place.at('')))}")
    wanted = [present[name] for name in sorted(needed(place, present)) if name in present]
    missing = [file for file in wanted if client.cached(place.at(file.path)) is None]
    if missing:
        size = format_bytes(sum(file.size for file in missing))
        tell(f"downloading {len(missing)} files of {place} ({size})")
    with ThreadPoolExecutor(PARALLEL) as pool:
        paths = list(pool.map(lambda file: client.fetch(place.at(file.path)), wanted))
    return paths[0].parent


def in_folder(place: HubUri, name: str) -> HubUri:
    """Return the URI of a file in a folder."""
    return place.at(f"{place.path}/{name}".strip("/"))


def needed(place: HubUri, present: dict[str, HubFile]) -> set[str]:
    """Return the names of the files that a model needs. Raises DataError (3) for a folder that has no model."""
    from gptctl.model.hf import files as hf_files

    names = {"config.json", MANIFEST, *hf_files.files_among(list(present)), *listed(place, present)}
    if ADAPTER[0] in present and not any(name.startswith("model") for name in present):
        weights: Iterable[str] = ADAPTER
        names |= {*ADAPTER, "extra.json"}
    else:
        weights = weights_of(place, present)
    if not set(weights) & {name for name in present if name.endswith(".safetensors")}:
        pickles = sorted(name for name in present if name.endswith(PICKLES))
        if pickles:
            hint = "pickle checkpoints can run code: look for a revision with *.safetensors, such as @refs/pr/1"
            raise DataError(f"{place} has its weights only as pickles: {', '.join(pickles[:3])}", hint)
        hint = "name a folder with config.json and *.safetensors"
        raise DataError(f"{place} has no model: it has {named(list(present.values()))}", hint)
    return names | set(weights)


def listed(place: HubUri, present: dict[str, HubFile]) -> set[str]:
    """Return the names in the manifest of a model that gptctl wrote, without which it would be incomplete."""
    if MANIFEST not in present:
        return set()
    try:
        found = json.loads(read_small(client.fetch(place.at(present[MANIFEST].path))))
        names = {str(entry["path"]) for key in ("files", "shards") for entry in found.get(key, ())}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return set()  # it is not gptctl's, or whoever reads it says what is wrong
    return {name for name in names if not name.endswith(PICKLES)}


def weights_of(place: HubUri, present: dict[str, HubFile]) -> list[str]:
    """Return the names of the files of the weights, in the order in which `weight_files` looks for them."""
    if WEIGHTS in present:
        return [WEIGHTS]
    if INDEX in present:
        try:
            listed = json.loads(read_small(client.fetch(place.at(present[INDEX].path))))["weight_map"]
            names = sorted(set(map(str, listed.values())))
            if not all(map(is_file_name, names)):
                raise ValueError("not the names of files")
            return [INDEX, *names]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(f"{place.at(present[INDEX].path)} is damaged", "look at it on the hub") from error
    return [name for name in present if name.startswith("shard-") and name.endswith(".safetensors")]


def base_in_cache(name: str, revision: str) -> Path | None:
    """Return the folder of the cache that has the model OWNER/MODEL, or None. No server is asked."""
    try:
        config = client.cached(HubUri.parse(f"hf://{name}@{revision}").at("config.json"))
    except (UsageError, ValueError):  # no repository can have this name
        return None
    return config.parent if config else None
