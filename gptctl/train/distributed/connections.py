"""The connections between ranks: as few sockets as the messages need."""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress


def connect_on_demand() -> None:
    """Let gloo connect two ranks when they first exchange data. Call it before the process group is initialized.

    By default gloo connects every pair of ranks in each group: two groups of 1,024 ranks need 2,046 sockets per rank.
    Objects are broadcast along a tree and gathered around a ring, so that a rank needs about 12 sockets per group. The
    first rank collects the plan of a checkpoint from all others, for which the limit on open files is raised.
    """
    if sys.platform == "linux":  # gloo's transport on macOS has no such mode
        os.environ.setdefault("TORCH_GLOO_LAZY_INIT", "1")
    raise_file_limit()


def raise_file_limit() -> None:
    """Allow this process and its children as many open files, sockets among them, as the system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS reports a limit that it then refuses
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
