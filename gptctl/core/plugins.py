"""Plug-ins: files of this package, entry points of installed packages, and files that the user names.

A plug-in is a module. Its public name is the name of its file or of its entry point. Each kind of plug-in has a
contract, which is a Protocol in its package's `__init__` (`CONTRACT`). A module is checked against the contract when it
is loaded. Nothing is imported before the user names it: to list names, only folders and package metadata are read.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from traceback import walk_tb
from types import ModuleType
from typing import Any, TypeVar

import xxhash

from gptctl.core.errors import GptctlError, UsageError

# The kinds that other packages and files can extend: entry-point group and package.
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
        """Return the public name."""
        return Path(self.path).stem


_files: dict[tuple[str, str], PluginFile] = {}  # by package and name
_origins: dict[str, dict[str, str]] = {}  # the origin and hash of each loaded plug-in that is not built in
_digests: dict[str, Callable[[], str]] = {}  # by the same names: functions that hash the files as they are now
_used: set[str] = set()  # the plug-ins that the current command has named


def names(package: str) -> list[str]:
    """Return the sorted plug-in names of a package such as "gptctl.text.filters", without importing any plug-in."""
    added = [name for owner, name in _files if owner == package]
    return sorted({*built_in(package), *installed(package), *added})


def file_names(package: str) -> list[str]:
    """Return the names of a package's plug-ins that are files named by the user."""
    return sorted(name for owner, name in _files if owner == package)


@cache
def built_in(package: str) -> tuple[str, ...]:
    """Return the names of the plug-ins that are files of a package."""
    spec = find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(package)
    found = pkgutil.iter_modules(list(spec.submodule_search_locations))
    return tuple(sorted(module.name for module in found if not module.name.startswith("_")))


@cache
def installed(package: str) -> dict[str, EntryPoint]:
    """Return the entry points by which installed packages add plug-ins to a package, by name."""
    groups = [group for group, owner in KINDS.items() if owner == package]
    return {point.name: point for group in groups for point in sorted(entry_points(group=group), key=str)}


def load(package: str, name: str) -> ModuleType:
    """Import one plug-in and check it against its package's contract.

    Raises UsageError (2) for an unknown name, listing the known names and the nearest one. Raises UsageError (2) also
    for a module that does not meet the contract.
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
    """Import the module of an entry point. Raises UsageError (2) if that fails or the contract is not met."""
    owner = f"{point.dist.name} {point.dist.version}" if point.dist else "an installed package"
    try:
        with redirect_stdout(sys.stderr):  # standard output is for results
            module = point.load()
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{kind_name(package)} '{name}' of {owner} cannot be imported: {type(error).__name__}: {error}",
            "update or remove that package",
        ) from error
    if lacks := problems(package, module):
        raise UsageError(f"{kind_name(package)} '{name}' of {owner} is incomplete: {lacks}", contract_hint(package))
    _origins[f"{package}.{name}"] = {"from": owner, "hash": package_digest(point.module)}
    _digests[f"{package}.{name}"] = partial(package_digest, point.module)
    return module  # type: ignore[no-any-return]


def package_digest(module_name: str) -> str:
    """Return the xxh3-128 of all Python files of the package that an imported module belongs to.

    That is the outermost package that has an `__init__.py`, or the module itself if it is in no package.
    """
    parts = module_name.split(".")
    parents = (sys.modules[".".join(parts[:count])] for count in range(1, len(parts) + 1))
    outermost = next((module for module in parents if getattr(module, "__file__", None)), None)
    if outermost is None:
        return ""
    file = Path(str(outermost.__file__))
    files = sorted(file.parent.rglob("*.py")) if hasattr(outermost, "__path__") else [file]
    digest = xxhash.xxh3_128()
    for one in files:
        digest.update(f"{one.relative_to(file.parent).as_posix()}\0".encode())
        digest.update(xxhash.xxh3_128_digest(one.read_bytes()))
    return digest.hexdigest()


def add_file(path: str | Path) -> PluginFile:
    """Import a plug-in file and register it under its file name. Its kind is the one whose contract it meets.

    Raises UsageError (2) if the file does not exist or cannot be imported, if its name is taken, or if it meets no
    contract.
    """
    file = Path(path).absolute()
    if not is_file(file):
        bare = "/" not in str(path) and file.suffix != ".py"
        hint = "an installed plug-in needs no --plugin" if bare else "check the path of the plug-in"
        raise UsageError(f"no such file: {path}", hint)
    if file.suffix != ".py":
        raise UsageError(f"{path} is not a Python file", "name a plug-in with --plugin FILE.py")
    digest = file_digest(file)
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
    _digests[f"{package}.{added.name}"] = partial(file_digest, file)
    _used.add(f"{package}.{added.name}")
    return added


def file_digest(file: Path) -> str:
    """Return the xxh3-128 of a file."""
    return xxhash.xxh3_128_hexdigest(file.read_bytes())


def is_file(path: Path) -> bool:
    """Return whether a path is a file. A path that no file system allows is not."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def import_file(file: Path) -> ModuleType:
    """Import a file under a module name of its own. Raises UsageError (2) for any exception that its code raises."""
    name = FILE_MODULE + file.stem
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with redirect_stdout(sys.stderr):  # standard output is for results
            spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, GptctlError) or not isinstance(error, Exception | SystemExit):
            raise
        raise UsageError(
            f"plug-in {file} cannot be imported: {type(error).__name__}: {error}", "correct the file"
        ) from error
    return module


@contextmanager
def failures(package: str, name: str, function: str) -> Iterator[None]:
    """Report an exception that the code of a plug-in raises as UsageError (2) with the line.

    Exceptions of built-in plug-ins and errors of gptctl pass unchanged.
    """
    try:
        yield
    except (GptctlError, MemoryError):
        raise
    except Exception as error:
        if name in built_in(package):
            raise
        source = getattr(load(package, name), "__file__", None) or name
        lines = [number for frame, number in walk_tb(error.__traceback__) if frame.f_code.co_filename == source]
        line = f", line {lines[-1]}" if lines else ""
        raise UsageError(
            f"plug-in {source} failed in {function}{line}: {type(error).__name__}: {error}",
            "correct the file; --debug shows the traceback",
        ) from error


def kind_of(module: ModuleType, file: Path) -> str:
    """Return the package whose contract a plug-in file meets. Raises UsageError (2) if it meets none or several."""
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
    """Return what a module lacks of its package's contract, as text, or an empty string."""
    lacks = missing(package, module)
    return f"it lacks {', '.join(lacks)}" if lacks else ""


def contracts(package: str) -> tuple[type, ...]:
    """Return the Protocols of a package. A plug-in must meet one of them."""
    found = getattr(importlib.import_module(package), "CONTRACT", ())
    return found if isinstance(found, tuple) else (found,)


def missing(package: str, module: ModuleType) -> list[str]:
    """Return what a module lacks of its package's contract. If there are several Protocols, the nearest one counts."""
    options = [[text for name in members(c) if (text := lack(c, name, module))] for c in contracts(package)]
    return min(options, key=len, default=[])


def lack(contract: type, name: str, module: ModuleType) -> str:
    """Return how a module fails to meet one member of a contract, or an empty string."""
    wanted = getattr(contract, name, None)
    if not hasattr(module, name):
        return signature_text(name, wanted)
    found = getattr(module, name)
    if name == "Config":
        return config_problem(found)
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


def config_problem(found: Any) -> str:
    """Return what is wrong with the class of a plug-in's settings, or an empty string."""
    from gptctl.core.config.settings import Settings

    if not (inspect.isclass(found) and issubclass(found, Settings)):
        return "Config (a subclass of gptctl.core.config.Settings)"
    try:
        found()
    except Exception as error:
        return f"Config with valid defaults ({' '.join(str(error).split())})"
    return ""


def signature_text(name: str, wanted: Any) -> str:
    """Return a member of a contract as source code: `rules(config)`, or the name of a constant or class."""
    if not inspect.isfunction(wanted):
        return name
    return f"{name}({', '.join(p for p in inspect.signature(wanted).parameters if p != 'self')})"


def members(contract: type) -> list[str]:
    """Return the names that a Protocol requires."""
    bases = [base for base in contract.__mro__ if getattr(base, "_is_protocol", False) and base.__module__ != "typing"]
    found = [name for base in bases for name in (*inspect.get_annotations(base), *vars(base))]
    return [name for name in dict.fromkeys(found) if not name.startswith("_")]


def contract_hint(package: str) -> str:
    """Return a hint that says where a contract is documented."""
    return f"see docs/plugins.md and the contract in {package.replace('.', '/')}/__init__.py"


def begin_command(files: Iterable[str]) -> None:
    """Register the plug-in files of a command, and forget what an earlier command of this process has used."""
    _used.clear()
    for file in files:
        add_file(file)


def record() -> dict[str, dict[str, str]]:
    """Return the origin and hash of each plug-in that the command uses and that is not built in, for run.json."""
    return {name: _origins[name] for name in sorted(_used)}


def hashes_now() -> dict[str, str]:
    """Return the hash that the files of each of these plug-ins have now. One that cannot be read is left out."""
    found = {}
    for name in sorted(_used):
        with suppress(OSError):
            found[name] = _digests[name]()
    return found


def carried(function: Function) -> Function:
    """Return a function that registers the plug-in files in each process in which it is unpickled."""
    return partial(_call, snapshot(), function) if _files else function  # type: ignore[return-value]


def snapshot() -> Snapshot:
    """Return the plug-in files of this process. Send them to another process before the data that needs them."""
    return Snapshot(_files.values())


class Snapshot(tuple[PluginFile, ...]):
    """The plug-in files of a process. Unpickling imports them, before anything that follows in the pickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _add_all, (tuple((file.path, file.digest) for file in self),)


def _add_all(files: Iterable[tuple[str, str]]) -> Snapshot:
    """Import plug-in files in a worker. Raises UsageError (2) if a file differs from the parent process's."""
    added = []
    for path, digest in files:
        file = add_file(path)
        if file.digest != digest:
            raise UsageError(f"{path} has changed since the command began", "run the command again")
        added.append(file)
    return Snapshot(added)


def _call(_snapshot: Snapshot, function: Callable[..., Any], *args: Any, **more: Any) -> Any:
    """Call a function. Unpickling the first argument has already registered the plug-in files."""
    return function(*args, **more)


def kind_name(package: str) -> str:
    """Return the word for a plug-in of a package: "filter" for gptctl.text.filters."""
    return package.rsplit(".", 1)[-1].removesuffix("s").replace("_", " ").replace("strategie", "strategy")


def unknown(kind: str, name: str, known: list[str]) -> UsageError:
    """Return the error for a name that is not known. It lists the known names and suggests the nearest one."""
    near = did_you_mean(name, known)
    return UsageError(f"no {kind} is called '{name}'{near}", f"known: {', '.join(known)}")


def did_you_mean(name: str, known: list[str], show: Callable[[str], str] = str) -> str:
    """Return " (did you mean 'steps'?)", or an empty string if no known name is similar.

    `show` returns a known name as the user would type it.
    """
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    near = near or [one for one in known if len(name) > 1 and one.startswith(name)]
    return f" (did you mean '{show(near[0])}'?)" if near else ""
