"""Several machines in one run: which of them leads.

The same command runs on each, with the same run folder on a file system that all of them see. The one that
--rdzv-endpoint names leads: it alone locks and writes the folder's records; ranks find each other through a store on
its port.
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

WAIT_SECONDS = 600.0  # for the leading machine to answer, and to begin
TRY_SECONDS = 5  # between two looks at whether we are to stop
LEAVE_SECONDS = 20.0  # for the others to leave before the store closes

STATE, LEFT = "gptctl/state", "gptctl/left"
TRAINS, ENDED = "trains", "ended"


class Nodes:
    """What one machine knows of the others."""

    def __init__(self, count: int, place: str, store: TCPStore | None, leads: bool) -> None:
        self.count = count
        self.place = place
        self.store = store
        self.leads = leads

    def begin(self) -> None:
        """Let the others know that this machine, which leads, is about to train."""
        if self.store is not None:
            self.store.set(STATE, TRAINS)

    def wait(self, stop: StopFlag) -> bool:
        """Wait until the leading machine trains; False if it ended without."""
        assert self.store is not None
        deadline = time.monotonic() + WAIT_SECONDS
        while not self.store.check([STATE]):
            stop.check("waiting for the leading machine was stopped")
            if time.monotonic() > deadline:
                raise MachineError(f"the machine at {self.place} does not begin", "see what it says")
            time.sleep(0.2)
        return bool(self.store.get(STATE) == TRAINS.encode())

    def leave(self) -> None:
        """Say goodbye; who leads stays a while until all others did, for they still talk to its store."""
        if self.store is None:
            return
        try:
            if not self.leads:
                self.store.add(LEFT, 1)
                return
            if not self.store.check([STATE]):
                self.store.set(STATE, ENDED)
            deadline = time.monotonic() + LEAVE_SECONDS
            while self.store.add(LEFT, 0) < self.count - 1 and time.monotonic() < deadline:
                time.sleep(0.1)
        except dist.DistError:  # gone before us
            pass


@contextmanager
def join(nodes: int, rendezvous: str, stop: StopFlag) -> Iterator[Nodes]:
    """Meet the other machines: give what this one is among them, once the leading one answers.

    Raises UsageError (2) for a place that is none, MachineError (4) if nobody answers there.
    """
    if nodes == 1:
        yield Nodes(1, "", None, True)
        return
    host, _, port = rendezvous.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(
            f"--nodes {nodes} needs --rdzv-endpoint HOST:PORT, not '{rendezvous}'",
            "give the same free port of one of the machines to all of them",
        )
    store = serve(host, int(port))
    joined = Nodes(nodes, rendezvous, store or knock(host, int(port), stop), store is not None)
    try:
        yield joined
    finally:
        joined.leave()


def serve(host: str, port: int) -> TCPStore | None:
    """Open the store if HOST is this machine and nobody on it was faster."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UsageError(f"--rdzv-endpoint: no machine is called {host}: {error}", "give a name or address") from error
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EADDRINUSE):
                return None
            raise MachineError(f"cannot listen on {host}:{port}: {error}", "choose another port") from error
    try:
        return TCPStore(host, port, is_master=True, wait_for_workers=False, multi_tenant=True)
    except dist.DistNetworkError as error:  # somebody listens since a moment ago
        if "EADDRINUSE" in str(error):
            return None
        raise MachineError(f"cannot listen on {host}:{port}: {error}", "choose another port") from error


def knock(host: str, port: int, stop: StopFlag) -> TCPStore:
    """Reach the leading machine's store, as soon as it is there.

    Raises StoppedError after a signal, MachineError (4) if it never is.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        stop.check("waiting for the other machines was stopped")
        try:
            return TCPStore(host, port, is_master=False, timeout=timedelta(seconds=TRY_SECONDS))
        except dist.DistError as error:
            if time.monotonic() > deadline:
                raise MachineError(
                    f"nobody answers at {host}:{port}: {str(error).splitlines()[0]}",
                    f"start the same command on {host}, and let the port through",
                ) from error
