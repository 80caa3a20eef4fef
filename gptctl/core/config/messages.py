"""What users read about a bad config key: its name as they wrote it, what it takes, and what they gave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gptctl.core.config.fields import bare, choices_of, declaration, is_list, table_of
from gptctl.core.config.settings import StageConfig
from gptctl.core.config.values import Values, look_up
from gptctl.core.plugins import did_you_mean
from gptctl.core.redact import redact

FLAG, SET, ENVIRONMENT, PRESET, DEFAULT = "flag", "--set", "environment", "preset", "default"
ARGUMENT = "argument"  # of a Python function
SHOWN_CHARACTERS = 60
MISSING = "is missing"
Model = type[BaseModel]


def command(model: Model) -> str:
    """Return the command that a config belongs to, as it is typed."""
    return f"gptctl {model.__name__.lower()}" if issubclass(model, StageConfig) else "gptctl"


def usage(model: Model) -> str:
    """Return the shortest command line: its arguments, and the flags it cannot do without."""
    fields = model.model_fields.items()
    arguments = [declaration(info).metavar for _, info in fields if declaration(info).form == "argument"]
    flags = [
        f"{typed(name, info)} {declaration(info).metavar}"
        for name, info in fields
        if declaration(info).form == "flag" and info.is_required()
    ]
    return " ".join([command(model), *arguments, *flags])


def typed(name: str, info: FieldInfo) -> str:
    """Return an argument or flag as it is typed: its short form if it has one."""
    declared = declaration(info)
    if declared.form == "argument":
        return declared.metavar
    return declared.short or "--" + name.replace("_", "-")


def named(model: Model, dotted: str, origin: str) -> str:
    """Name a key as the user wrote it: as a flag, as a variable, or as a key with its file."""
    if origin == FLAG:
        for name, info in model.model_fields.items():
            if dotted in (name, *declaration(info).paths):
                return typed(name, info)
    if origin == ARGUMENT:
        return dotted
    if origin == SET:
        return f"--set {dotted}"
    if origin == ENVIRONMENT:
        return variable(dotted)
    return dotted if origin in (FLAG, PRESET, DEFAULT) else f"{dotted} in {origin}"


def variable(dotted: str) -> str:
    """Return the environment variable of a key."""
    return "GPTCTL_" + dotted.upper().replace(".", "__")


def unknown(model: Model, dotted: str, origin: str, value: Any, commands: tuple[str, ...]) -> str:
    """Say that no key has this name, and which one may have been meant. In a file, a table may be a command's."""
    *tables, last = dotted.split(".")
    owner = model
    for name in tables:
        owner = (table_of(owner.model_fields[name].annotation) if name in owner.model_fields else None) or owner
    if issubclass(model, StageConfig) and dotted in model.instead:
        return f"{named(model, dotted, origin)} is not a key of {command(model)}: {model.instead[dotted]}"
    is_file = origin not in (FLAG, SET, ENVIRONMENT, PRESET, DEFAULT, ARGUMENT)
    if isinstance(value, Mapping):
        known = [name for name, info in owner.model_fields.items() if table_of(info.annotation)]
        known += commands if is_file and not tables else ()
        what = "no command or table is called" if is_file and not tables else "no table is called"
        return f"{what} [{dotted}]{f' in {origin}' if is_file else ''}{did_you_mean(last, known)}"
    if origin == ENVIRONMENT:
        near = did_you_mean(last, list(owner.model_fields), lambda name: variable(".".join((*tables, name))))
        return f"environment variable {variable(dotted)} names no config key{near}"
    near = did_you_mean(last, list(owner.model_fields), lambda name: ".".join((*tables, name)))
    return f"config key '{dotted}'{f' in {origin}' if is_file else ''} is not known{near}"


def invalid(model: Model, error: Mapping[str, Any], given: Values, origins: Mapping[str, str]) -> str:
    """Turn one pydantic error into a sentence."""
    parts = [str(part) for part in error["loc"]]
    info, dotted = locate(model, parts)
    within = (origins[name] for name in origins if name.startswith(f"{dotted}."))
    origin = origins.get(dotted) or next(within, DEFAULT)
    if error["type"] == "missing" and info is not None and parts == dotted.split("."):
        return f"{typed(dotted, info)} {MISSING}"
    name = named(model, dotted, origin)
    if error["type"] in ("value_error", "assertion_error") or info is None:
        message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
        return f"{name}: {message}" if dotted else message
    value = look_up(given, dotted)
    near = did_you_mean(value, list(choices_of(info.annotation))) if isinstance(value, str) else ""
    return f"{name} takes {accepted(info)}, not {shown(value)}{near}"


def locate(model: Model, parts: list[str]) -> tuple[FieldInfo | None, str]:
    """Find the field that an error is about; positions in a list do not count."""
    info, owner, names = None, model, []
    for part in parts:
        if part not in owner.model_fields:
            break
        info = owner.model_fields[part]
        names.append(part)
        table = table_of(info.annotation)
        if table is None:
            break
        owner = table
    return info, ".".join(names)


def shown(value: Any) -> str:
    """Show a value in a message: short, and without passwords."""
    text = redact(repr(value))
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."


def accepted(info: FieldInfo) -> str:
    """Say what values a field takes."""
    kind = bare(info.annotation)
    if choices := [choice for choice in choices_of(kind) if choice]:
        return " or ".join([", ".join(choices[:-1]), choices[-1]] if len(choices) > 1 else choices)
    if table_of(kind):
        return "a table of keys"
    if is_list(kind):
        items = [item for item in get_args(kind) if item is not Ellipsis]
        if table := table_of(items[0]):
            return f"a list of tables with {' and '.join(table.model_fields)}"
        if Ellipsis in get_args(kind):
            return f"a list of {PLURALS.get(items[0], 'values')}, such as a,b"
        return f"a list of {len(items)} {PLURALS.get(items[0], 'values')}"
    return f"{SINGULARS.get(kind, 'another value')}{bounds(info)}"


SINGULARS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}


def bounds(info: FieldInfo) -> str:
    """Say which numbers are too small or too large, and which texts do not fit."""
    found = {
        rule: getattr(one, rule) for one in info.metadata for rule in LIMITS if getattr(one, rule, None) is not None
    }
    if {"ge", "le"} <= found.keys():
        return f" from {found['ge']} to {found['le']}"
    return " " + " and ".join(f"{LIMITS[rule]} {limit}" for rule, limit in found.items()) if found else ""


LIMITS = {"ge": "of at least", "gt": "above", "le": "of at most", "lt": "below", "pattern": "that matches"}
