"""From a stage's config model to its command: every flag's name, type, help, bound and default come from the model."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gptctl.cli.completion import completer
from gptctl.core.config import StageConfig, extra, is_list

COMMON_PANEL = "Everywhere"


def common_options() -> dict[str, Any]:
    """List the options that every command has and no config holds, as name: annotation."""

    def option(kind: Any, *names: str, help: str, **more: Any) -> Any:
        return Annotated[
            kind, typer.Option(*names, help=help, rich_help_panel=COMMON_PANEL, show_default=False, **more)
        ]

    return {
        "config_file": option(Path | None, "--config", help="TOML file with config keys.", metavar="FILE"),
        "set_values": option(
            list[str] | None, "--set", help="Set a config key: --set a.b=value. Repeatable.", metavar="KEY=VALUE"
        ),
        "print_config": option(
            bool, "--print-config", help="Print every key, its value and where it comes from; then stop."
        ),
        "dry_run": option(bool, "--dry-run", help="Check everything and say what would be done; then stop."),
        "json_output": option(bool, "--json", help="Print the result as one JSON document on standard output."),
        "force": option(bool, "--force", help="Start afresh in an output folder made with other settings."),
        "quiet": option(bool, "--quiet", "-q", help="Say nothing on standard error but errors."),
        "verbose": option(
            bool, "--verbose", "-v", help="Say which settings were chosen, and the progress each second."
        ),
        "debug": option(bool, "--debug", help="Show tracebacks."),
    }


def signature(model: type[StageConfig], run: Callable[..., None]) -> Callable[..., None]:
    """Return `run` a signature that Typer turns into the command line of a stage.

    Options default to None, so that only what was typed reaches `run`; the help shows the model's defaults.
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
    """List the fields that are arguments and flags, a stage's own before those that all stages share."""
    shown = [
        (name, field)
        for name, field in model.model_fields.items()
        if extra(field).get("argument") or extra(field).get("flag")
    ]
    return sorted(
        shown, key=lambda item: (extra(item[1]).get("panel") == "Runtime", item[0] in StageConfig.model_fields)
    )


def annotate(name: str, field: FieldInfo) -> Any:
    """Turn one config field into an annotated Typer parameter."""
    notes = extra(field)
    if metavar := notes.get("argument"):
        kind = list[str] | None if is_list(field.annotation) else str | None
        return Annotated[
            kind,
            typer.Argument(
                help=field.description, metavar=metavar, show_default=False, autocompletion=completer(field)
            ),
        ]
    dashed = "--" + name.replace("_", "-")
    negated = bare(field.annotation) is bool and not notes.get("switch")
    names = [f"{dashed}/--no-{name.replace('_', '-')}" if negated else dashed]
    if notes.get("short"):
        names.append(notes["short"])
    kind = option_type(field.annotation)
    return Annotated[
        kind | None,
        typer.Option(
            *names,
            help=field.description,
            rich_help_panel=notes.get("panel"),
            show_default=default_text(field),
            autocompletion=completer(field),
        ),
    ]


def bare(annotation: Any) -> Any:
    """Strip `| None`."""
    if get_origin(annotation) in (Union, UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        return kinds[0]
    return annotation


def option_type(annotation: Any) -> Any:
    """Return the type Typer checks: a list is typed as "a,b"."""
    kind = bare(annotation)
    if get_origin(kind) is Literal or kind in (int, float, bool):
        return kind
    return str


def default_text(field: FieldInfo) -> Any:
    """Show a default in help, or nothing where there is none worth showing."""
    value = field.default
    if value is PydanticUndefined or value is None or value == "" or value == () or extra(field).get("path"):
        return False
    if isinstance(value, bool):
        return "on" if value else False
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
