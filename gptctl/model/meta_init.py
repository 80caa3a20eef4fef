"""Building modules on the meta device, without memory and initial values, for weights that are loaded afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


@contextmanager
def meta_init() -> Iterator[None]:
    """Build modules on the meta device and skip their initialization.

    Drawing random numbers on that device would import torch's compiler, which takes 1 to 2 s.
    """
    with torch.device("meta"), SkipInit():
        yield


class SkipInit(TorchFunctionMode):
    """Turns the functions of torch.nn.init into no-ops."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return the tensor that `func` would fill, unchanged; call any other function."""
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
