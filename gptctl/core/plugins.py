"""A plugin is a file in a folder; its file name is its public name."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache
from importlib.util import find_spec
from types import ModuleType

from gptctl.core.errors import UsageError


@cache
def names(package: str) -> list[str]:
    """List the plugins of a package such as "gptctl.text.filters", sorted, without importing any of them."""
    spec = find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(package)
    found = pkgutil.iter_modules(list(spec.submodule_search_locations))
    return sorted(module.name for module in found if not module.name.startswith("_"))


def load(package: str, name: str) -> ModuleType:
    """Import one plugin. An unknown name is a UsageError that lists the known ones and the nearest."""
    known = names(package)
    if name not in known:
        raise unknown(package.rsplit(".", 1)[-1].rstrip("s").replace("_", " "), name, known)
    return importlib.import_module(f"{package}.{name}")


def unknown(kind: str, name: str, known: list[str]) -> UsageError:
    """Say that `name` is not one of `known`, and which one may have been meant."""
    near = did_you_mean(name, known)
    return UsageError(f"no {kind} is called '{name}'{near}", f"known: {', '.join(known)}")


def did_you_mean(name: str, known: list[str]) -> str:
    """Return " (did you mean 'steps'?)", or nothing where no known name is near."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f" (did you mean '{near[0]}'?)" if near else ""
