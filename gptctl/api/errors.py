"""One exception for callers: whatever goes wrong becomes a GptctlError."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from gptctl.core.errors import GptctlError, from_exception

P = ParamSpec("P")
T = TypeVar("T")


def as_gptctl_error(function: Callable[P, T]) -> Callable[P, T]:
    """Return a function that raises GptctlError where the given one raises any other Exception.

    The original exception is kept as the cause. KeyboardInterrupt and SystemExit pass.
    """

    @wraps(function)
    def call(*args: P.args, **more: P.kwargs) -> T:
        try:
            return function(*args, **more)
        except GptctlError:
            raise
        except Exception as error:
            raise from_exception(error) from error

    return call
