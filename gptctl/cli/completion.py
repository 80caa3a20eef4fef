"""Shell completion: presets, filters and metrics by name, and the outputs of earlier stages.

If nothing is offered, the shell completes file names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

from pydantic.fields import FieldInfo

from gptctl.core.config import choices_of, declaration
from gptctl.core.run_record import RUN_RECORD

MAX_DEPTH = 3  # levels below the folder that is being typed
MAX_OFFERED = 50
Completer = Callable[[str], list[str]]


def completer(field: FieldInfo) -> Completer | None:
    """Return the function that completes a field's values, or None to leave completion to the shell."""
    declared = declaration(field)
    if (choices := declared.choices) is not None:
        return lambda incomplete: among(choices(), incomplete)
    if values := [value for value in choices_of(field.annotation) if value]:
        return lambda incomplete: among(values, incomplete)
    return outputs if declared.reads else None


def among(choices: Iterable[str], typed: str) -> list[str]:
    """Return the choices that complete the typed text. After "a,b" these are the choices that complete b."""
    done, comma, last = typed.rpartition(",")
    taken = done.split(",")
    return [done + comma + choice for choice in choices if choice.startswith(last) and choice not in taken]


def outputs(incomplete: str) -> list[str]:
    """Return the outputs of stages at or below the folder that is being typed. Typer needs the name `incomplete`."""
    typed = incomplete.removeprefix("./")
    folder = Path(typed or ".") if typed.endswith("/") or not typed else Path(typed).parent
    patterns = ("*/" * depth + RUN_RECORD for depth in range(1, MAX_DEPTH + 1))
    found = (str(path.parent) for pattern in patterns for path in sorted(folder.glob(pattern)))
    return list(islice((path for path in found if path.startswith(typed)), MAX_OFFERED))
