"""What the shell offers after a tab: presets, filters and metrics by name, and the outputs of earlier stages.

Where nothing is offered, the shell completes file names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

from pydantic.fields import FieldInfo

from gptctl.core.config import choices_of, declaration
from gptctl.core.run_record import RUN_RECORD

MAX_DEPTH = 3  # below the folder that is being typed
MAX_OFFERED = 50
Completer = Callable[[str], list[str]]


def completer(field: FieldInfo) -> Completer | None:
    """Return the function that completes a field's values, or None to leave that to the shell."""
    declared = declaration(field)
    if (choices := declared.choices) is not None:
        return lambda incomplete: among(choices(), incomplete)
    if values := [value for value in choices_of(field.annotation) if value]:
        return lambda incomplete: among(values, incomplete)
    return outputs if declared.reads else None


def among(choices: Iterable[str], typed: str) -> list[str]:
    """Offer choices; of "a,b", what completes b."""
    done, comma, last = typed.rpartition(",")
    taken = done.split(",")
    return [done + comma + choice for choice in choices if choice.startswith(last) and choice not in taken]


def outputs(incomplete: str) -> list[str]:
    """Offer the folders below what is being typed that a stage wrote. (Typer asks for the parameter's name.)"""
    typed = incomplete.removeprefix("./")
    folder = Path(typed or ".") if typed.endswith("/") or not typed else Path(typed).parent
    patterns = ("*/" * depth + RUN_RECORD for depth in range(1, MAX_DEPTH + 1))
    found = (str(path.parent) for pattern in patterns for path in sorted(folder.glob(pattern)))
    return list(islice((path for path in found if path.startswith(typed)), MAX_OFFERED))
