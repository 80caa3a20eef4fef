"""Skip imports of packages that another package would import only for features that gptctl does not use."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class Hidden:
    """An importer that reports some packages as not installed."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> None:
        """Raise ModuleNotFoundError for a hidden package, and leave all others to the next importer."""
        if name in self.names:
            raise ModuleNotFoundError(f"{name} is hidden", name=name)


@contextmanager
def hidden(*names: str) -> Iterator[None]:
    """Make packages look as if they were not installed. Packages that are already imported stay usable."""
    importer = Hidden(names)
    sys.meta_path.insert(0, importer)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.meta_path.remove(importer)
