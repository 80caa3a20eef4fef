"""Find and load plug-ins: files of this package, entry points of installed packages, and files that the user names.

A plug-in is a module. Its public name is its file's name, or the name of its entry point. The contract of each kind is
a Protocol in its package's `__init__` (`CONTRACT`), and a module is checked against it when it is loaded. Nothing is
imported before the user names it: listing names reads folders and package metadata only.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import xxhash

from gptctl.core.errors import GptctlError, UsageError

# The kinds that other packages and files can add to: entry-point group and package.
KINDS = {
    "gptctl.filters": "gptctl.text.filters",
    "gptctl.formats": "gptctl.io.formats",
    "gptctl.loggers": "gptctl.train.loggers",
    "gptctl.metrics": "gptctl.evals.metrics",
    "gptctl.objectives": "gptctl.train.objectives",
    "gptctl.tasks": "gptctl.evals.tasks",
}
FILE_MODULE = "gptctl_plugin_"  # prefix of the module names of plug-in files

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class PluginFile:
    """A plug-in file that the user named. `digest` is the xxh3-128 of its content."""

    path: str
    package: str
    digest: str

    @property
    def name(self) -> str:
        """The public name."""
        return Path(self.path).stem


_files: dict[tuple[str, str], PluginFile] = {}  # by package and name
_origins: dict[str, dict[str, str]] = {}  # where each loaded plug-in that is not built in is from, and its hash
_used: set[str] = set()  # those that the command under way has named


def names(package: str) -> list[str]:
    """List the plug-ins of a package such as "gptctl.text.filters", sorted, without importing any of them."""
    added = [name for owner, name in _files if owner == package]
    return sorted({*built_in(package), *installed(package), *added})


def file_names(package: str) -> list[str]:
    """List the plug-ins of a package that are files which the user named."""
    return sorted(name for owner, name in _files if owner == package)


@cache
def built_in(package: str) -> tuple[str, ...]:
    """List the plug-ins that are files of a package."""
    spec = find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(package)
    found = pkgutil.iter_modules(list(spec.submodule_search_locations))
    return tuple(sorted(module.name for module in found if not module.name.startswith("_")))


@cache
def installed(package: str) -> dict[str, EntryPoint]:
    """Return the entry points of installed packages that add to a package, by name."""
    groups = [group for group, owner in KINDS.items() if owner == package]
    return {point.name: point for group in groups for point in sorted(entry_points(group=group), key=str)}


def load(package: str, name: str) -> ModuleType:
    """Import one plug-in and check it against its package's contract.

    Raises UsageError (2) for an unknown name, listing the known ones and the nearest, and for a module that lacks what
    the contract asks for.
    """
    if name in built_in(package):
        return importlib.import_module(f"{package}.{name}")
    if (file := _files.get((package, name))) is not None:
        _used.add(f"{package}.{name}")
        return sys.modules[FILE_MODULE + file.name]
    if (point := installed(package).get(name)) is None:
        raise unknown(kind_name(package), name, names(package))
    module = load_installed(package, name, point)
    _used.add(f"{package}.{name}")
    return module


@cache
def load_installed(package: str, name: str, point: EntryPoint) -> ModuleType:
    """Import the module of an entry point. Raises UsageError (2) if it cannot be imported or lacks something."""
    owner = f"{point.dist.name} {point.dist.version}" if point.dist else "an installed package"
    try:
        module = point.load()
    except Exception as error:
        raise UsageError(
            f"{kind_name(package)} '{name}' of {owner} cannot be imported: {type(error).__name__}: {error}",
            "update or remove that package",
        ) from error
    if lacks := problems(package, module):
        raise UsageError(f"{kind_name(package)} '{name}' of {owner} is incomplete: {lacks}", contract_hint(package))
    source = getattr(module, "__file__", None)
    digest = xxhash.xxh3_128_hexdigest(Path(source).read_bytes()) if source else ""
    _origins[f"{package}.{name}"] = {"from": owner, "hash": digest}
    return module  # type: ignore[no-any-return]


def add_file(path: str | Path) -> PluginFile:
    """Import a plug-in file and make it known under its file name; its contents tell which kind it is.

    Raises UsageError (2) if there is no such file, it cannot be imported, its name is taken, or it meets no contract.
    """
    file = Path(path).absolute()
    if file.suffix != ".py" or not file.is_file():
        raise UsageError(f"{path} is not a Python file", "name a plug-in with --plugin FILE.py")
    digest = xxhash.xxh3_128_hexdigest(file.read_bytes())
    known = [other for other in _files.values() if other.name == file.stem]
    if known and (known[0].path, known[0].digest) == (str(file), digest):
        _used.add(f"{known[0].package}.{file.stem}")
        return known[0]
    if known and known[0].path != str(file):
        raise UsageError(f"two plug-ins are called '{file.stem}': {known[0].path} and {file}", "rename one of them")
    module = import_file(file)
    package = kind_of(module, file)
    if file.stem in built_in(package):
        raise UsageError(
            f"the name of {file} is taken: '{file.stem}' is a built-in {kind_name(package)}", "rename the file"
        )
    added = PluginFile(str(file), package, digest)
    _files[package, added.name] = added
    _origins[f"{package}.{added.name}"] = {"from": file.name, "hash": digest}
    _used.add(f"{package}.{added.name}")
    return added


def import_file(file: Path) -> ModuleType:
    """Import a file under a module name of its own. Raises UsageError (2) for whatever its code raises."""
    name = FILE_MODULE + file.stem
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, GptctlError) or not isinstance(error, Exception):
            raise
        raise UsageError(
            f"plug-in {file} cannot be imported: {type(error).__name__}: {error}", "correct the file"
        ) from error
    return module


def kind_of(module: ModuleType, file: Path) -> str:
    """Return the package whose contract a plug-in file meets. Raises UsageError (2) if it meets none, or several."""
    lacks = {package: missing(package, module) for package in KINDS.values() if contracts(package)}
    fits = [package for package, absent in lacks.items() if not absent]
    if len(fits) == 1:
        return fits[0]
    if fits:
        kinds = " and ".join(map(kind_name, fits))
        raise UsageError(f"plug-in {file} can be a {kinds}", "split it into two files")
    nearest = min(lacks, key=lambda package: len(lacks[package]) / len(members(contracts(package)[0])))
    raise UsageError(
        f"plug-in {file} is of no known kind; for a {kind_name(nearest)} it lacks {', '.join(lacks[nearest])}",
        contract_hint(nearest),
    )


def problems(package: str, module: ModuleType) -> str:
    """Say what a module lacks of its package's contract, or return an empty string."""
    lacks = missing(package, module)
    return f"it lacks {', '.join(lacks)}" if lacks else ""


def contracts(package: str) -> tuple[type, ...]:
    """Return the Protocols of a package, of which a plug-in must meet one."""
    found = getattr(importlib.import_module(package), "CONTRACT", ())
    return found if isinstance(found, tuple) else (found,)


def missing(package: str, module: ModuleType) -> list[str]:
    """List what a module lacks of its package's contract; of several alternatives, the one it lacks least of."""
    options = [[text for name in members(c) if (text := lack(c, name, module))] for c in contracts(package)]
    return min(options, key=len, default=[])


def lack(contract: type, name: str, module: ModuleType) -> str:
    """Say how a module falls short of one member of a contract, or return an empty string."""
    wanted = getattr(contract, name, None)
    if not hasattr(module, name):
        return signature_text(name, wanted)
    found = getattr(module, name)
    if not inspect.isfunction(wanted):
        return ""
    if not callable(found):
        return signature_text(name, wanted)
    parameters = [p for p in inspect.signature(wanted).parameters.values() if p.name != "self"]
    try:
        inspect.signature(found).bind(*[None for p in parameters if p.default is p.empty])
    except TypeError:
        return f"{signature_text(name, wanted)} (it takes {inspect.signature(found)})"
    except ValueError:  # a compiled function without a signature
        return ""
    return ""


def signature_text(name: str, wanted: Any) -> str:
    """Show a member of a contract as it is written: `rules(config)`, or the name of a constant or class."""
    if not inspect.isfunction(wanted):
        return name
    return f"{name}({', '.join(p for p in inspect.signature(wanted).parameters if p != 'self')})"


def members(contract: type) -> list[str]:
    """List the names that a Protocol asks for."""
    bases = [base for base in contract.__mro__ if getattr(base, "_is_protocol", False) and base.__module__ != "typing"]
    found = [name for base in bases for name in (*inspect.get_annotations(base), *vars(base))]
    return [name for name in dict.fromkeys(found) if not name.startswith("_")]


def contract_hint(package: str) -> str:
    """Say where a contract is written down."""
    return f"see docs/plugins.md and the contract in {package.replace('.', '/')}/__init__.py"


def begin_command(files: Iterable[str]) -> None:
    """Make the plug-in files of a command known, and forget what an earlier command of this process has used."""
    _used.clear()
    for file in files:
        add_file(file)


def record() -> dict[str, dict[str, str]]:
    """Return what run.json says of the plug-ins that the command uses and that are not built in: origin and hash."""
    return {name: _origins[name] for name in sorted(_used)}


def carried(function: Function) -> Function:
    """Return a function that makes the plug-in files known in whatever process it is unpickled."""
    return partial(_call, snapshot(), function) if _files else function  # type: ignore[return-value]


def snapshot() -> Snapshot:
    """Return the plug-in files of this process, to be sent to another one ahead of what needs them."""
    return Snapshot(_files.values())


class Snapshot(tuple[PluginFile, ...]):
    """The plug-in files of a process. Unpickling imports them, before what follows in the pickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _add_all, (tuple((file.path, file.digest) for file in self),)


def _add_all(files: Iterable[tuple[str, str]]) -> Snapshot:
    """Import plug-in files in a worker. Raises UsageError (2) if one is not what the parent process has."""
    added = []
    for path, digest in files:
        file = add_file(path)
        if file.digest != digest:
            raise UsageError(f"{path} has changed since the command began", "run the command again")
        added.append(file)
    return Snapshot(added)


def _call(_snapshot: Snapshot, function: Callable[..., Any], *args: Any, **more: Any) -> Any:
    """Call a function in a process that knows the plug-in files."""
    return function(*args, **more)


def kind_name(package: str) -> str:
    """Return what one plug-in of a package is called: "filter" for gptctl.text.filters."""
    return package.rsplit(".", 1)[-1].removesuffix("s").replace("_", " ").replace("strategie", "strategy")


def unknown(kind: str, name: str, known: list[str]) -> UsageError:
    """Say that `name` is not one of `known`, and which one may have been meant."""
    near = did_you_mean(name, known)
    return UsageError(f"no {kind} is called '{name}'{near}", f"known: {', '.join(known)}")


def did_you_mean(name: str, known: list[str]) -> str:
    """Return " (did you mean 'steps'?)", or nothing where no known name is near."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f" (did you mean '{near[0]}'?)" if near else ""
