"""The folders of the hub's repositories, described as pyarrow.fs describes those of other storage."""

from __future__ import annotations

from pathlib import PurePosixPath

import pyarrow.fs as pafs

from gptctl.io.hub import client
from gptctl.io.hub.uri import HubUri


def file_info(place: HubUri) -> pafs.FileInfo:
    """Return the type (NotFound, File, Directory) and the size of what a URI names."""
    place = client.pin(place)
    if found := client.file_at(place):
        return pafs.FileInfo(inner_path(place), type=pafs.FileType.File, size=found.size)
    is_folder = bool(client.files_below(place)) or not place.path
    return pafs.FileInfo(inner_path(place), type=pafs.FileType.Directory if is_folder else pafs.FileType.NotFound)


def list_files(place: HubUri, recursive: bool) -> list[pafs.FileInfo]:
    """Return the files below a URI, or, unless `recursive`, the files and folders directly below it."""
    place = client.pin(place)
    start = len(place.path) + 1 if place.path else 0
    below = client.files_below(place)
    files = [file for file in below if recursive or "/" not in file.path[start:]]
    found = [pafs.FileInfo(inner_path(place.at(f.path)), type=pafs.FileType.File, size=f.size) for f in files]
    names = {} if recursive else dict.fromkeys(f.path[start:].split("/")[0] for f in below if "/" in f.path[start:])
    inner = [place.at(f"{place.path}/{name}".strip("/")) for name in names]
    return found + [pafs.FileInfo(inner_path(folder), type=pafs.FileType.Directory) for folder in inner]


def base_name(place: HubUri) -> str:
    """Return the last part of the path, or of the repository's name."""
    return PurePosixPath(place.path or place.repo).name


def inner_path(place: HubUri) -> str:
    """Return the part of a URI that an address of storage calls its path."""
    prefix = "datasets/" if place.kind == "dataset" else ""
    return f"{prefix}{place.repo}@{place.revision}/{place.path}".rstrip("/")
