"""Errors in the words of Python: the names of arguments instead of flags, and help() instead of --help."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from functools import partial, wraps
from typing import ParamSpec, Protocol, TypeVar

from gptctl.core.config import StageConfig, choices_of, declaration
from gptctl.core.errors import GptctlError

P = ParamSpec("P")
T = TypeVar("T")

FLAG = re.compile(r"(?<![\w-])--(?:no-)?([a-z][a-z0-9-]*)(?: ([\w.]*\w))?")
OUT = re.compile(r"(?<![\w-])-o\b")
COMMAND = re.compile(r"\bgptctl [a-z]+ (?=\S)")  # what follows is typed in a shell
ONLY_IN_A_SHELL = re.compile(r"--set |, or - for a pipe|; '-' reads standard input")


class Decorator(Protocol):
    """Returns a function of the same type."""

    def __call__(self, function: Callable[P, T], /) -> Callable[P, T]:
        """Return the decorated function."""


def in_python(name: str, model: type[StageConfig], common: Collection[str] = ()) -> Decorator:
    """Return a decorator that words the errors of a function for its callers.

    `name` is the function's name in gptctl, `model` has the keys that are its arguments, and `common` names the others.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def call(*args: P.args, **more: P.kwargs) -> T:
            try:
                return function(*args, **more)
            except GptctlError as error:
                error.message = reword(error.message, model, common)
                error.args = (error.message,)
                if error.hint and f"gptctl {model.__name__.lower()} " in error.hint:
                    error.hint = f"see help(gptctl.{name})"
                elif error.hint:
                    error.hint = reword(error.hint, model, common)
                raise

        return call

    return decorate


def reword(text: str, model: type[StageConfig], common: Collection[str] = ()) -> str:
    """Return a text with the names of arguments instead of flags and placeholders. Shell commands stay."""
    fields = {key: declaration(info) for key, info in model.model_fields.items()}
    positional = {one.metavar.strip("[]."): key for key, one in fields.items() if one.form == "argument"}
    command = COMMAND.search(text)
    words, rest = (text[: command.start()], text[command.start() :]) if command else (text, "")
    words = OUT.sub("out", FLAG.sub(partial(as_argument, model, common), ONLY_IN_A_SHELL.sub("", words)))
    if positional:
        words = re.sub(rf"\b({'|'.join(positional)})\b", lambda found: positional[found[1]], words)
    return words + rest


def as_argument(model: type[StageConfig], common: Collection[str], found: re.Match[str]) -> str:
    """Return a flag, and the word behind it, as a Python argument. What is no flag of the model stays."""
    name, value = found[1].replace("-", "_"), found[2]
    if name not in model.model_fields:
        return found[0].removeprefix("--").replace(found[1], name, 1) if name in common else found[0]
    info = model.model_fields[name]
    offered = declaration(info).choices
    choices = offered() if offered else choices_of(info.annotation)
    if value is None:
        return name
    if value in choices:
        return f"{name}='{value}'"
    return f"{name}={value}" if value[0].isdigit() else f"{name} {value}"
