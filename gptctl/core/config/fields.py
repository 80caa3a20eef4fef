"""How config keys are declared: as arguments, as flags, or for config files and --set alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

from gptctl.core.config.values import Values, look_up, merge, nest


@dataclass(frozen=True)
class Declaration:
    """What is known of a config key besides its type, default, bounds and help text.

    form: an "argument" is typed by position, a "flag" as --name, a "key" in config files and with --set alone.
    metavar: the name of an argument, or the placeholder of a flag's value in help.
    panel: the heading under which help lists the flag.
    short: the flag's one-letter form, such as "-o".
    runtime: the key cannot change a result, so it is left out of the settings that outputs are compared by.
    switch: the flag has no --no- form.
    paths: the dotted keys of tables that the flag sets. They hold its value, and the key itself stays unset.
    reads: the value names files or folders that the command reads.
    folder: the value names the folder that the command writes.
    choices: returns the values that the shell completes.
    pairs: each item of the list is NAME=VALUE, so a table of names and values can be given, too.
    """

    form: Literal["argument", "flag", "key"] = "key"
    metavar: str = ""
    panel: str = "Options"
    short: str = ""
    runtime: bool = False
    switch: bool = False
    paths: tuple[str, ...] = ()
    reads: bool = False
    folder: bool = False
    choices: Callable[[], Iterable[str]] | None = None
    pairs: bool = False


def argument(default: Any, metavar: str, help: str, *, reads: bool = True) -> Any:
    """Declare a positional argument. It names what is read, so it is never part of a run's settings."""
    return field(default, help, Declaration("argument", metavar, runtime=True, reads=reads))


def flag(
    default: Any,
    help: str,
    *,
    metavar: str = "",
    panel: str = "Options",
    short: str = "",
    runtime: bool = False,
    switch: bool = False,
    paths: tuple[str, ...] = (),
    reads: bool = False,
    choices: Callable[[], Iterable[str]] | None = None,
    pairs: bool = False,
    **bounds: Any,
) -> Any:
    """Declare a config key that is also a command-line flag. `Declaration` explains the parameters."""
    declared = Declaration("flag", metavar, panel, short, runtime, switch, paths, reads, choices=choices, pairs=pairs)
    return field(default, help, declared, **bounds)


def output(default: Any, help: str) -> Any:
    """Declare the flag -o of a command that writes a folder."""
    declared = Declaration("flag", "OUT", panel="Output", short="-o", runtime=True, folder=True)
    return field(default, help, declared)


def key(default: Any, help: str, *, runtime: bool = False, pairs: bool = False, **bounds: Any) -> Any:
    """Declare a config key for config files and --set alone."""
    return field(default, help, Declaration(runtime=runtime, pairs=pairs), **bounds)


def field(default: Any, help: str, declared: Declaration, **bounds: Any) -> Any:
    """Return a pydantic field that carries its declaration."""
    return Field(default, description=help, json_schema_extra={"declaration": declared}, **bounds)  # type: ignore[dict-item]


def declaration(info: FieldInfo) -> Declaration:
    """Return how a field was declared."""
    extra = info.json_schema_extra
    found = extra.get("declaration") if isinstance(extra, dict) else None
    return found if isinstance(found, Declaration) else Declaration()


def bare(annotation: Any) -> Any:
    """Return a type without `| None`."""
    if get_origin(annotation) in (Union, UnionType):
        return next(kind for kind in get_args(annotation) if kind is not type(None))
    return annotation


def table_of(annotation: Any) -> type[BaseModel] | None:
    """Return the config model that a field of this type holds, or None if it is not a table."""
    kind = bare(annotation)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def spread(model: type[BaseModel], values: Values) -> Values:
    """Move the values of keys that stand for keys of tables there: {"lr": 1} becomes {"training": {"lr": 1}}."""
    short = short_forms(model, values)
    spread_out = {name: value for name, value in values.items() if name not in short}
    for name, paths in short.items():
        for path in paths if values[name] is not None else ():
            spread_out = merge(spread_out, nest(path, values[name]))
    return spread_out


def given_twice(model: type[BaseModel], values: Values) -> list[tuple[str, str]]:
    """List the keys of tables that the same values give directly and by a short form, each with the short form."""
    short = short_forms(model, values)
    return [(path, name) for name, paths in short.items() for path in paths if look_up(values, path) is not None]


def short_forms(model: type[BaseModel], values: Values) -> dict[str, tuple[str, ...]]:
    """Return the given keys that stand for keys of tables, with those keys."""
    return {
        name: declaration(info).paths
        for name, info in model.model_fields.items()
        if declaration(info).paths and name in values and not isinstance(values[name], dict)
    }


def is_list(annotation: Any) -> bool:
    """Tell whether a field of this type holds a list."""
    return get_origin(bare(annotation)) in (list, tuple)


def choices_of(annotation: Any) -> tuple[str, ...]:
    """Return the values of a Literal type, or nothing for other types."""
    kind = bare(annotation)
    return tuple(map(str, get_args(kind))) if get_origin(kind) is Literal else ()
