"""From a command's config model to its command line: the model gives every flag's name, type, help, and default."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gptctl.cli.completion import completer
from gptctl.cli.stages import COMMON_PANEL
from gptctl.core.config import StageConfig, bare, choices_of, declaration, is_list

GROUPS = ("Input", "Sampling", "Devices", "Workers", "Randomness")  # panels of option groups, as help orders them
MAX_SHOWN_CHOICES = 5
METAVARS = {int: "INT", float: "FLOAT", str: "TEXT", bool: ""}


def common_options() -> dict[str, Any]:
    """Return the options that every command has and no config holds, as name: annotation."""

    def option(kind: Any, *names: str, help: str, metavar: str = "") -> Any:
        return Annotated[
            kind,
            typer.Option(*names, help=help, metavar=metavar, rich_help_panel=COMMON_PANEL, show_default=False),
        ]

    return {
        "config_file": option(Path | None, "--config", help="TOML file with config keys.", metavar="FILE"),
        "set_values": option(
            list[str] | None, "--set", help="Set a config key, such as a.b=value. Repeatable.", metavar="KEY=VALUE"
        ),
        "plugin_files": option(
            list[str] | None, "--plugin", help="Load a plug-in from a Python file. Repeatable.", metavar="FILE.py"
        ),
        "print_config": option(
            bool, "--print-config", help="Print all keys, their values and where each comes from, then stop."
        ),
        "dry_run": option(bool, "--dry-run", help="Check everything, show what would be done, then stop."),
        "json_output": option(bool, "--json", help="Print the result as one JSON document on standard output."),
        "force": option(bool, "--force", help="Start afresh in an output folder made with other settings."),
        "quiet": option(bool, "--quiet", "-q", help="Print warnings and errors only."),
        "verbose": option(bool, "--verbose", "-v", help="Print the chosen settings, and the progress each second."),
        "debug": option(bool, "--debug", help="Show tracebacks."),
    }


def signature(model: type[StageConfig], run: Callable[..., None]) -> Callable[..., None]:
    """Return `run` with a signature that Typer turns into the command line of a command.

    Options default to None, so that only what was typed reaches `run`. They arrive as text: the config model checks
    them, with the same messages as for files and variables.
    """
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotate(name, field), default=None)
        for name, field in ordered(model)
    ]
    parameters += [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=annotation,
            default=None if "None" in str(annotation) else False,
        )
        for name, annotation in common_options().items()
    ]

    def command(**values: Any) -> None:
        run(values)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def ordered(model: type[StageConfig]) -> list[tuple[str, FieldInfo]]:
    """List the fields that are arguments and flags: --out, the command's own, then those of shared option groups."""
    shown = [(name, field) for name, field in model.model_fields.items() if declaration(field).form != "key"]

    def rank(item: tuple[str, FieldInfo]) -> tuple[bool, bool, int]:
        name, declared = item[0], declaration(item[1])
        is_shared = declared.panel in GROUPS and in_group(model, name)
        return declared.form != "argument", name != "out", 1 + GROUPS.index(declared.panel) if is_shared else 0

    return sorted(shown, key=rank)


def in_group(model: type[StageConfig], name: str) -> bool:
    """Tell whether a field comes from an option group rather than from the command itself."""
    groups = [base for base in model.__mro__ if issubclass(base, StageConfig) and base.__module__ != model.__module__]
    return any(name in group.model_fields for group in groups)


def annotate(name: str, field: FieldInfo) -> Any:
    """Turn one config field into an annotated Typer parameter."""
    declared = declaration(field)
    if declared.form == "argument":
        kind = list[str] | None if is_list(field.annotation) else str | None
        return Annotated[
            kind,
            typer.Argument(
                help=escaped(field.description or ""), metavar=declared.metavar, show_default=False,
                autocompletion=completer(field),
            ),
        ]  # fmt: skip
    dashed = "--" + name.replace("_", "-")
    is_switch = bare(field.annotation) is bool
    names = [f"{dashed}/--no-{name.replace('_', '-')}" if is_switch and not declared.switch else dashed]
    default = default_text(field)
    text = (field.description or "") + (f" [default: {default}]" if default else "")
    return Annotated[
        (bool if is_switch else str) | None,
        typer.Option(
            *names, *([declared.short] if declared.short else []), help=escaped(text), metavar=metavar(field),
            rich_help_panel=declared.panel, show_default=False, autocompletion=completer(field),
        ),
    ]  # fmt: skip


def escaped(text: str) -> str:
    """Keep square brackets from being read as markup."""
    return text.replace("[", r"\[")


def metavar(field: FieldInfo) -> str:
    """Return the placeholder of a flag's value in help: its choices, or the kind of value."""
    if given := declaration(field).metavar:
        return given
    if choices := few_choices(field):
        return "|".join(choices)
    if declaration(field).choices and not is_list(field.annotation):
        return "NAME"
    return "A,B" if is_list(field.annotation) else METAVARS.get(bare(field.annotation), "TEXT")


def few_choices(field: FieldInfo) -> list[str]:
    """Return the values of a flag that has a few, or nothing. Names of plug-ins count."""
    offered = declaration(field).choices
    if offered is not None and not is_list(field.annotation):
        names = list(offered())
        return names if len(names) <= MAX_SHOWN_CHOICES else []
    return [choice for choice in choices_of(field.annotation) if choice]


def default_text(field: FieldInfo) -> str:
    """Return a default as help shows it, or nothing where none is worth showing."""
    value = field.default
    if value is PydanticUndefined or value is None or value in ("", ()) or declaration(field).paths:
        return ""
    if isinstance(value, bool):
        return "on" if value else ""
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
