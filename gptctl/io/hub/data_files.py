"""The data of a dataset repository: its files without cards and code, and its configs and splits.

A card (README.md) may divide the data into configs, each with files for its splits. Otherwise the names of files and
folders tell the split, as in the package datasets: data/train-00000-of-00002.parquet, test.jsonl, dev/a.txt.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

from gptctl.core.errors import DataError, UsageError
from gptctl.io import formats
from gptctl.io.files import split_suffixes
from gptctl.io.formats import InputFile
from gptctl.io.hub import client
from gptctl.io.hub.client import HubFile
from gptctl.io.hub.uri import HubUri
from gptctl.io.input.glob_match import begins_with, hidden

# Names of files that describe a repository, in any format and language.
ABOUT = re.compile(r"(readme|licen[cs]e|citation|changelog|contributing|notice|requirements)\b.*", re.I)
RECORDS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "croissant.json")
SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
MAX_NAMED = 5


@dataclass(frozen=True)
class Selection:
    """The files that a URI selects, sorted by path, and those beside them that are ignored.

    `start` is the folder, with a slash at its end, that the names of the files begin after.
    """

    files: tuple[HubFile, ...]
    ignored: tuple[HubFile, ...] = ()
    start: str = ""


def find_files(place: HubUri, name: str = "") -> list[InputFile]:
    """Return the files of a dataset that a URI selects; `name` is what they are called after, as in `find.find_files`.

    Raises UsageError (2) if nothing has that name, DataError (3) if nothing there is data.
    """
    place = client.pin(place)
    if found := client.file_at(place):
        return [InputFile(str(place), name or PurePosixPath(place.path).name, found.size)]
    selection = select(place)
    prefix = f"{name}/" if name and not glob.has_magic(place.path) else ""
    return [
        InputFile(str(place.at(file.path)), f"{prefix}{file.path[len(selection.start) :]}", file.size)
        for file in selection.files
    ]


@lru_cache(maxsize=64)
def select(place: HubUri) -> Selection:
    """Return the files that a pinned URI of a folder, a glob or a repository selects. Raises as `find_files` does."""
    if found := client.file_at(place):
        return Selection((found,), start=place.path[: -len(PurePosixPath(place.path).name)])
    if glob.has_magic(place.path):
        parts = place.path.split("/")
        start = "/".join(parts[: next(i for i, part in enumerate(parts) if glob.has_magic(part))])
        below = [file for file in client.files_below(place.at("")) if begins_with(file.path.split("/"), parts)]
    else:
        start, below = place.path, client.files_below(place)
    if not below:
        raise UsageError(
            f"no such file or folder: {place}", f"the repository has {named(client.files_below(place.at('')))}"
        )
    start = f"{start}/" if start else ""
    chosen = [file for file in below if is_data(file.path, file.path[len(start) :])]
    known = {file.path for file in chosen}
    ignored = [file for file in below if file.path not in known and not is_always_there(file.path)]
    if not place.path:
        chosen = of_config(place, chosen)
    elif place.config:
        raise UsageError(f"{place} has both a path and config=", "leave one of them out")
    if place.split:
        chosen = of_split(place, chosen)
    if not chosen:
        raise DataError(f"{place} has no data: it has {named(below)}", "name the file or the folder to read")
    return Selection(tuple(chosen), tuple(ignored), start)


def is_data(path: str, inner: str) -> bool:
    """Return whether a file of a repository is data. `inner` is its path below the folder that is listed."""
    name = PurePosixPath(path).name
    suffix = split_suffixes(name)[0]
    known = suffix in formats.load("txt").SUFFIXES or formats.format_name(suffix) not in ("txt", "archive")
    return known and not hidden(inner.split("/")) and not ABOUT.fullmatch(name) and name not in RECORDS


def is_always_there(path: str) -> bool:
    """Return whether a file is one that nearly every repository has, which nobody needs to be told of."""
    return path in (client.CARD, ".gitattributes")


def of_config(place: HubUri, files: list[HubFile]) -> list[HubFile]:
    """Return those data files of a whole repository that belong to its chosen config: all if the card has none."""
    config = chosen_config(place)
    wanted = [pattern for patterns in split_patterns(config).values() for pattern in patterns]
    if wanted:
        return [file for file in files if fits(file, wanted)]
    inside = data_folder(config)
    return [file for file in files if file.path.startswith(inside)]


def chosen_config(place: HubUri) -> dict[str, Any]:
    """Return the config that the URI names, the card's default or its only one; nothing if the card has none.

    Raises UsageError (2) for an unknown config, and if the card has several and the URI names none.
    """
    configs = configs_of(place.at(""))
    if not configs and not place.config:
        return {}
    default = next((name for name, config in configs.items() if config.get("default") or name == "default"), "")
    name = place.config or default or (next(iter(configs)) if len(configs) == 1 else "")
    if name in configs:
        return configs[name]
    what = f"has no config '{name}'" if name else "has several configs"
    example = f"name one, as in '{replace(place, config=next(iter(configs)))}'" if configs else "leave out config="
    raise UsageError(f"{place.at('')} {what}; its card has: {', '.join(configs) or 'none'}", example)


def of_split(place: HubUri, files: list[HubFile]) -> list[HubFile]:
    """Return the files of one split. Raises UsageError (2) if there is none of that name."""
    divided = divide(place, files)
    wanted = usual(place.split)
    if found := [file for name, part in divided.items() if wanted == usual(name) for file in part]:
        return found
    what = f"has the splits {', '.join(divided)}" if divided else "has no splits"
    raise UsageError(f"{replace(place, split='')} {what}, but not '{place.split}'", "name a file or a folder")


def splits_of(place: HubUri) -> dict[str, str]:
    """Return the URIs of the splits of a repository or a folder: of "train", "val" and "test", those it has."""
    place = client.pin(place)
    if place.split or glob.has_magic(place.path) or client.file_at(place):
        return {}
    divided = divide(place, list(select(place).files))
    return {usual(name): str(replace(place, split=usual(name))) for name in divided if name.lower() in SPLITS}


def usual(name: str) -> str:
    """Return the name that gptctl has for a split."""
    return SPLITS.get(name.lower(), name)


def divide(place: HubUri, files: list[HubFile]) -> dict[str, list[HubFile]]:
    """Return files by the names of their splits, as the card or else their own names tell them."""
    patterns = {} if place.path else split_patterns(chosen_config(place))
    if set(patterns) - {""}:
        return {name: found for name, wanted in patterns.items() if (found := [f for f in files if fits(f, wanted)])}
    divided: dict[str, list[HubFile]] = {}
    start = len(place.path) + 1 if place.path and not glob.has_magic(place.path) else 0
    for file in files:
        if name := split_in_name(file.path[start:]):
            divided.setdefault(name, []).append(file)
    return divided


def split_in_name(path: str) -> str:
    """Return the split that a path names: in the file's name, or else in the nearest folder that names one."""
    for part in reversed(path.split("/")):
        for word in re.split(r"[-._ 0-9]+", part.lower()):
            if word in SPLITS:
                return SPLITS[word]
    return ""


@lru_cache(maxsize=64)
def configs_of(repository: HubUri) -> dict[str, dict[str, Any]]:
    """Return the configs that a pinned repository's card declares, by name. Raises DataError (3) for a damaged card."""
    card = repository.at(client.CARD)
    if client.file_at(card) is None:
        return {}
    declared = client.card_values(card).get("configs") or []
    found = [config for config in declared if isinstance(config, dict)] if isinstance(declared, list) else []
    return {str(config.get("config_name", "default")): config for config in found}


def data_folder(config: dict[str, Any]) -> str:
    """Return the folder of a config, with a slash at its end, or an empty string."""
    inside = str(config.get("data_dir") or "").removeprefix("./").strip("/")
    return f"{inside}/" if inside else ""


def split_patterns(config: dict[str, Any]) -> dict[str, list[str]]:
    """Return the globs of each split of a config: of the split "" if the card names no splits."""
    declared = config.get("data_files")
    patterns: dict[str, list[str]] = {}
    for entry in declared if isinstance(declared, list) else [declared] if declared else []:
        is_split = isinstance(entry, dict)
        paths = entry.get("path", []) if is_split else entry
        for path in paths if isinstance(paths, list) else [paths]:
            split = str(entry.get("split", "")) if is_split else ""
            patterns.setdefault(split, []).append(data_folder(config) + str(path).removeprefix("./"))
    return patterns


def fits(file: HubFile, patterns: Sequence[str]) -> bool:
    """Return whether a file matches one of several globs."""
    return any(begins_with(file.path.split("/"), pattern.split("/")) for pattern in patterns)


def named(files: Sequence[HubFile]) -> str:
    """Return the first few names of files, and the number of the others."""
    if not files:
        return "no files"
    more = f" and {len(files) - MAX_NAMED:,} more" if len(files) > MAX_NAMED else ""
    return ", ".join(file.path for file in files[:MAX_NAMED]) + more
