"""The commands as functions: `gptctl.clean("raw/", out="clean")` does what `gptctl clean raw/ -o clean` does.

Each function is made from the config model of its command, so names, types, defaults and help are the same.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gptctl.api.errors import as_gptctl_error
from gptctl.api.given import as_given
from gptctl.api.wording import in_python
from gptctl.core.config import Layer, StageConfig, bare, declaration, is_list, table_of
from gptctl.core.config.messages import ARGUMENT
from gptctl.core.config.values import Values
from gptctl.core.errors import UsageError
from gptctl.core.plugins import did_you_mean
from gptctl.core.summary import Summary

# The name of each function, and its command.
FUNCTIONS = {
    "clean": "clean",
    "dedup": "dedup",
    "split": "split",
    "tokenize": "tokenize",
    "pretrain": "pretrain",
    "finetune": "finetune",
    "evaluate": "eval",
    "generate": "generate",
    "export": "export",
    "report": "report",
}
# What every function takes besides the keys of its command.
COMMON = {
    "config": (str | Path | None, None, "TOML file with config keys."),
    "dry_run": (bool, False, "Check everything and return the plan; write nothing."),
    "force": (bool, False, "Start over in an output folder that was made with other settings."),
    "quiet": (bool, False, "Show neither progress nor messages."),
}


@cache
def function(name: str) -> Callable[..., Summary]:
    """Return the function of a command, with a signature and a docstring of its own."""
    from gptctl.cli.stages import config_model

    stage = FUNCTIONS[name]
    model = config_model(stage)
    signature = signature_of(model)

    @in_python(name, model, COMMON)
    @as_gptctl_error
    def call(*args: Any, **settings: Any) -> Summary:
        bound = bind(name, signature, args, settings)
        common = {key: bound.pop(key, COMMON[key][1]) for key in COMMON}
        return run(stage, {key: value for key, value in bound.items() if value is not None}, **common)

    call.__name__ = call.__qualname__ = name
    call.__module__ = "gptctl"
    call.__doc__ = docstring(model)
    call.__signature__ = signature  # type: ignore[attr-defined]
    call.__annotations__ = {key: p.annotation for key, p in signature.parameters.items()} | {"return": Summary}
    return call


def bind(name: str, signature: inspect.Signature, args: tuple[Any, ...], settings: Values) -> Values:
    """Return the arguments of a call by name.

    Raises UsageError (2) for an unknown or a missing one, for one of a type that no argument has, and for a pipe.
    """
    if unknown := [key for key in settings if key not in signature.parameters]:
        near = did_you_mean(unknown[0], list(signature.parameters))
        raise UsageError(f"gptctl.{name} has no argument '{unknown[0]}'{near}", f"see help(gptctl.{name})")
    try:
        bound = signature.bind(*args, **settings).arguments
    except TypeError as error:
        raise UsageError(f"gptctl.{name}: {error}", f"see help(gptctl.{name})") from error
    given = {key: as_given(key, value) for key, value in bound.items()}
    for key, value in given.items():
        texts = value if isinstance(value, list) else [value]
        if texts == ["-"]:
            raise UsageError("a pipe is for the command line alone", "name a file or a folder")
        is_path = "Path" in str(signature.parameters[key].annotation)
        if is_path and any(isinstance(text, str) and "\0" in text for text in texts):
            raise UsageError(f"{key} contains a null character: {value!r}", "check the path")
        expected, kind = (str, "a path") if key == "config" else (bool, "True or False")
        if key in COMMON and value is not None and not isinstance(value, expected):
            raise UsageError(f"{key} takes {kind}, not {value!r}", f"see help(gptctl.{name})")
    return given


def run(
    stage: str, values: Mapping[str, Any], config: str | Path | None, dry_run: bool, force: bool, quiet: bool
) -> Summary:
    """Run a command with these settings and return its result. Raises GptctlError as the command line reports it."""
    from gptctl.cli.notebook import console_for
    from gptctl.cli.resolve import resolve
    from gptctl.cli.stages import STAGES, plan
    from gptctl.core import plugins
    from gptctl.core.context import Context
    from gptctl.core.signals import StopFlag
    from gptctl.io.dataset.schema import prepare_arrow
    from gptctl.io.hub.pin import pin_config

    console = console_for(quiet)
    resolved, _ = resolve(stage, Layer(ARGUMENT, dict(values)), Path(config) if config else None)
    prepare_arrow()
    module = plugins.load(STAGES, stage)
    context = Context(
        force=force, argv=("python", stage), stop=StopFlag(),
        progress=console.progress, warn=console.warn, info=console.info, show_metrics=console.show_metrics,
        write=console.write,
    )  # fmt: skip
    started = time.monotonic()
    try:
        resolved = pin_config(resolved, context)
        summary: Summary = plan(stage, resolved, context) if dry_run else module.run(resolved, context)
    finally:
        console.stop_bar()
    summary = replace(summary, seconds=time.monotonic() - started)
    for warning in summary.warnings:
        console.warn(warning)
    summary = replace(summary, warnings=tuple(console.warnings))
    if summary.failure:
        summary.failure.summary = summary
        raise summary.failure
    return summary


class LongSignature(inspect.Signature):
    """A signature that help() shows with one parameter per line."""

    def __str__(self) -> str:
        """Return the signature as source code."""
        parameters = list(self.parameters.values())
        first = sum(one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for one in parameters)
        lines = [*map(str, parameters[:first]), "*", *map(str, parameters[first:])]
        return "(\n" + "".join(f"    {line},\n" for line in lines) + ") -> Summary"


def signature_of(model: type[StageConfig]) -> inspect.Signature:
    """Return the signature of a command's function: its arguments by position or name, everything else by name."""
    arguments = [parameter(name, field) for name, field in fields_of(model, "argument")]
    options = [parameter(name, field) for form in ("flag", "key") for name, field in fields_of(model, form)]
    options += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default, _) in COMMON.items()
    ]
    return LongSignature([*arguments, *options], return_annotation=Summary)


def fields_of(model: type[StageConfig], form: str) -> list[tuple[str, FieldInfo]]:
    """List the fields of one form: what must be given first."""
    found = [(name, field) for name, field in model.model_fields.items() if declaration(field).form == form]
    return sorted(found, key=lambda item: item[1].default is not PydanticUndefined)


def parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    """Return the parameter of one config key. Where None is its default, the preset or the config file decides."""
    is_argument = declaration(field).form == "argument"
    return inspect.Parameter(
        name,
        inspect.Parameter.POSITIONAL_OR_KEYWORD if is_argument else inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if field.default is PydanticUndefined else None,
        annotation=annotation_of(field),
    )


def annotation_of(field: FieldInfo) -> Any:
    """Return what a caller may give for a key: paths as str or Path, lists as any sequence, tables as mappings."""
    declared, kind = declaration(field), bare(field.annotation)
    if table_of(field.annotation):
        accepted: Any = Mapping[str, Any]
        accepted = accepted | str | Sequence[str] if declared.paths else accepted
    elif declared.pairs:
        accepted = str | Sequence[str] | Mapping[str, float]
    elif tuple[str, ...] in get_args(field.annotation):
        accepted = str | Sequence[str]
    elif is_list(field.annotation):
        item: Any = next((kind for kind in get_args(kind) if kind is not ...), str)
        accepted = item | Sequence[item]
        if declared.form == "argument" or declared.reads:
            accepted = str | Path | Sequence[str | Path]
    elif kind is str and (declared.reads or declared.folder):
        accepted = str | Path
    else:
        accepted = kind
    return accepted if field.default is PydanticUndefined else accepted | None


def docstring(model: type[StageConfig]) -> str:
    """Return a command's help as a docstring: what it does, then each key."""
    lines = [inspect.cleandoc(model.__doc__ or ""), "", "Parameters", "----------"]
    for form in ("argument", "flag", "key"):
        for name, field in fields_of(model, form):
            lines += [name, f"    {field.description}{default_text(field)}"]
    for name, (_, _, help_text) in COMMON.items():
        lines += [name, f"    {help_text}"]
    lines += ["", "Returns", "-------", "Summary", "    Its `counts`, `metrics`, `outputs` and `seconds`."]
    lines += ["", "Raises", "------", "GptctlError", "    Its `exit_code` is that of the command line."]
    return "\n".join(lines)


def default_text(field: FieldInfo) -> str:
    """Say which value holds where a key is not given."""
    value = field.default
    if value is PydanticUndefined or value is None or value in ("", ()) or table_of(field.annotation):
        return ""
    return f" Default: {', '.join(map(str, value)) if isinstance(value, tuple) else value}."
