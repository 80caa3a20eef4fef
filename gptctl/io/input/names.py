"""Names of inputs: the last part of each path, with as many parts before it as tell it from the others."""

from __future__ import annotations

import os
from collections.abc import Sequence

from gptctl.io.files import plain_path
from gptctl.io.object_storage.address import Address, is_uri


def distinct_names(paths: Sequence[str]) -> list[str]:
    """Return a name for each path: `web` for data/web, or `a/web` and `b/web` for a/web and b/web.

    Paths that are equal have equal names.
    """
    parts = [parts_of(path) for path in paths]
    lengths = [1] * len(paths)
    while True:
        names = ["/".join(one[-length:]) for one, length in zip(parts, lengths, strict=True)]
        unclear = [
            place
            for place, (one, name) in enumerate(zip(parts, names, strict=True))
            if lengths[place] < len(one)
            and any(other != one for other, same in zip(parts, names, strict=True) if same == name)
        ]
        if not unclear:
            return names
        for place in unclear:
            lengths[place] += 1


def parts_of(path: str) -> list[str]:
    """Return the parts of an absolute path, or of the bucket and path of a URI."""
    path = plain_path(path)
    whole = Address.parse(path).path if is_uri(path) else os.path.abspath(path)  # noqa: PTH100 (links stay)
    return [part for part in whole.split("/") if part] or ["/"]
