"""Names of inputs: the last part of each path, with as many parts before it as tell it from the others."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence

from gptctl.core.errors import UsageError
from gptctl.io.files import plain_path
from gptctl.io.hub.uri import HubUri, is_hub
from gptctl.io.object_storage.address import Address, is_uri


def distinct_names(paths: Sequence[str]) -> list[str]:
    """Return a name for each path: `web` for data/web, or `a/web` and `b/web` for a/web and b/web.

    Paths that are equal have equal names.
    """
    parts = [parts_of(path) for path in paths]
    lengths = [1] * len(paths)
    while True:
        names = ["/".join(one[-length:]) for one, length in zip(parts, lengths, strict=True)]
        called: defaultdict[str, set[tuple[str, ...]]] = defaultdict(set)
        for one, name in zip(parts, names, strict=True):
            called[name].add(one)
        longer = [
            min(length + (len(called[name]) > 1), len(one))
            for one, name, length in zip(parts, names, lengths, strict=True)
        ]
        if longer == lengths:
            return names
        lengths = longer


def parts_of(path: str) -> tuple[str, ...]:
    """Return the parts of an absolute path, of the bucket and path of a URI, or of a repository and path of the hub."""
    path = plain_path(path)
    if is_hub(path):
        place = HubUri.parse(path)
        return (
            "hf",
            *place.repo.split("/"),
            *(part for part in (*place.path.split("/"), place.config, place.split) if part),
        )
    whole = Address.parse(path).path if is_uri(path) else os.path.abspath(path)  # noqa: PTH100 (links stay)
    return tuple(part for part in whole.split("/") if part) or ("/",)


def name_sources(paths: Sequence[str]) -> list[str]:
    """Return a name for each source. Raises UsageError (2) if two paths are the same."""
    names = distinct_names(paths)
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise UsageError(f"{paths[names.index(name)]} is named twice", "name each source once, and give it its weight")
    return names
