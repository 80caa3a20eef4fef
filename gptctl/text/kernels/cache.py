"""Where numba keeps the compiled code of kernels: beside the source or, if that is read-only, in a cache folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from gptctl.core.cache_folder import cache_folder

SOURCES = Path(__file__).parent
BESIDE = SOURCES / "__pycache__"
VARIABLE = "NUMBA_CACHE_DIR"


def set_cache_folder() -> None:
    """Tell numba where to keep compiled code, unless the user did. Call it before numba is imported."""
    writable = BESIDE if BESIDE.exists() else SOURCES
    if not os.environ.get(VARIABLE) and not os.access(writable, os.W_OK):
        os.environ[VARIABLE] = str(cache_folder() / "kernels")


def current_folder() -> Path:
    """Return the folder with the compiled code."""
    set_cache_folder()
    return Path(os.environ.get(VARIABLE) or BESIDE)


def are_compiled(modules: Iterable[str]) -> bool:
    """Return whether there is compiled code of each of these kernel modules. That it is current is not checked."""
    folder = current_folder()
    return all(any(folder.rglob(f"{module.rsplit('.', 1)[-1]}.*.nbi")) for module in modules)
