"""Modules without numbers, to be given a file's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


@contextmanager
def blank() -> Iterator[None]:
    """Build modules on the meta device and leave out their initialisation.

    Drawing on that device would import torch's compiler, for 1 to 2 s.
    """
    with torch.device("meta"), Undrawn():
        yield


class Undrawn(TorchFunctionMode):
    """Lets the functions of torch.nn.init do nothing."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return the tensor back that would be filled; call anything else."""
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
