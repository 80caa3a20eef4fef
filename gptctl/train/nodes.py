"""Several machines in one run: which of them leads.

The same command runs on each, with the same run folder on a file system that all of them see. The one that --rdzv
names leads: it alone locks and writes the folder's records; ranks find each other through a store on its port.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from torch import distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from gptctl.core.errors import MachineError, UsageError
from gptctl.core.signals import StopFlag

WAIT_SECONDS = 600.0  # for the leading machine to answer
TRY_SECONDS = 5  # between two looks at whether we are to stop


@contextmanager
def join(nodes: int, rendezvous: str, stop: StopFlag) -> Iterator[bool]:
    """Tell whether this machine leads, once the leading one answers.

    Raises UsageError (2) for a place that is none, MachineError (4) if nobody answers there.
    """
    if nodes == 1:
        yield True
        return
    host, _, port = rendezvous.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(
            f"--nodes {nodes} needs --rdzv HOST:PORT, not '{rendezvous}'",
            "give the same free port of one of the machines to all of them",
        )
    store = serve(host, int(port))
    if store is None:
        knock(host, int(port), stop)
    yield store is not None
    del store  # it ends with its last reference


def serve(host: str, port: int) -> TCPStore | None:
    """Open the store if HOST is this machine and nobody on it was faster."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UsageError(f"--rdzv: no machine is called {host}: {error}", "give a name or address") from error
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EADDRINUSE):
                return None
            raise MachineError(f"cannot listen on {host}:{port}: {error}", "choose another port") from error
    return TCPStore(host, port, is_master=True, wait_for_workers=False, multi_tenant=True)


def knock(host: str, port: int, stop: StopFlag) -> None:
    """Wait until the leading machine answers. Raises StoppedError after a signal, MachineError (4) if it never does."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        stop.check("waiting for the other machines was stopped")
        try:
            TCPStore(host, port, is_master=False, timeout=timedelta(seconds=TRY_SECONDS))
        except dist.DistError as error:
            if time.monotonic() > deadline:
                raise MachineError(
                    f"nobody answers at {host}:{port}: {str(error).splitlines()[0]}",
                    f"start the same command on {host}, and let the port through",
                ) from error
        else:
            return
