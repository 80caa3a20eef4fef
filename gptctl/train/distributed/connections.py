"""The connections between ranks."""

from __future__ import annotations

import resource
from contextlib import suppress


def raise_file_limit() -> None:
    """Allow this process and its children as many open files, sockets among them, as the system allows.

    gloo connects every pair of ranks in each group: two groups of 1,024 ranks need 2,046 sockets in each rank, and a
    usual limit is 1,024. TORCH_GLOO_LAZY_INIT=1 in the environment lets them connect on demand, which needs far fewer.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS reports a limit that it then refuses
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
