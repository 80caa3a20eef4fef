"""Importing less: packages that another one would import for features we never use."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class Hidden:
    """An importer that knows nothing of some packages."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> None:
        """Refuse the hidden packages, leave all else to the others."""
        if name in self.names:
            raise ModuleNotFoundError(f"{name} is hidden", name=name)


@contextmanager
def hidden(*names: str) -> Iterator[None]:
    """Make packages look as if they were not installed, unless they are imported already."""
    importer = Hidden(names)
    sys.meta_path.insert(0, importer)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.meta_path.remove(importer)
