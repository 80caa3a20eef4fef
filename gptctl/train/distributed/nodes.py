"""Several machines in one run, and which of them leads.

The same command runs on each node, with the same run folder on a file system that all of them see. The node that
--rdzv-endpoint names leads: it alone locks the folder and writes its records. Ranks find each other through a store on
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

WAIT_SECONDS = 600.0  # for the leading node to answer, and to start training
POLL_SECONDS = 5  # between two checks of the stop flag
LEAVE_SECONDS = 20.0  # for the other nodes to disconnect before the store closes

STATE, LEFT = "gptctl/state", "gptctl/left"
TRAINING, ENDED = "training", "ended"


class Nodes:
    """One node's connection to the others."""

    def __init__(self, count: int, endpoint: str, store: TCPStore | None, is_leader: bool) -> None:
        self.count = count
        self.endpoint = endpoint
        self.store = store
        self.is_leader = is_leader

    def announce_training(self) -> None:
        """Tell the other nodes that this node, which leads, starts training."""
        if self.store is not None:
            self.store.set(STATE, TRAINING)

    def wait_for_training(self, stop: StopFlag) -> bool:
        """Wait until the leading node starts training. Return False if it ended without."""
        assert self.store is not None
        deadline = time.monotonic() + WAIT_SECONDS
        while not self.store.check([STATE]):
            stop.check("waiting for the leading node was stopped")
            if time.monotonic() > deadline:
                raise MachineError(f"the node at {self.endpoint} does not start training", "see its messages")
            time.sleep(0.2)
        return bool(self.store.get(STATE) == TRAINING.encode())

    def leave(self) -> None:
        """Disconnect. The leading node waits until the others have disconnected, because it hosts the store."""
        if self.store is None:
            return
        try:
            if not self.is_leader:
                self.store.add(LEFT, 1)
                return
            if not self.store.check([STATE]):
                self.store.set(STATE, ENDED)
            deadline = time.monotonic() + LEAVE_SECONDS
            while self.store.add(LEFT, 0) < self.count - 1 and time.monotonic() < deadline:
                time.sleep(0.1)
        except dist.DistError:  # the leading node left first
            pass


@contextmanager
def join_nodes(count: int, endpoint: str, stop: StopFlag) -> Iterator[Nodes]:
    """Yield this node's connection to `count` nodes, once the leading one answers.

    Raises UsageError (2) for an invalid endpoint, MachineError (4) if no node answers there.
    """
    if count == 1:
        yield Nodes(1, "", None, True)
        return
    host, port = split_endpoint(count, endpoint)
    store = host_store(host, port)
    joined = Nodes(count, endpoint, store or connect_to_store(host, port, stop), store is not None)
    try:
        yield joined
    finally:
        joined.leave()


def split_endpoint(count: int, endpoint: str) -> tuple[str, int]:
    """Return the host and the port of the rendezvous of `count` nodes. Raises UsageError (2) if it names none."""
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(
            f"--nodes {count} needs --rdzv-endpoint HOST:PORT" + (f", not '{endpoint}'" if endpoint else ""),
            "pass the same free port of one of the machines on all of them",
        )
    return host, int(port)


def host_store(host: str, port: int) -> TCPStore | None:
    """Open the store if HOST is this machine and no other process has opened it; else return None."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UsageError(
            f"--rdzv-endpoint: unknown host {host}: {error}", "pass the name or address of one of the machines"
        ) from error
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
    except dist.DistNetworkError as error:
        if "EADDRINUSE" in str(error):  # another process opened it since the probe
            return None
        raise MachineError(f"cannot listen on {host}:{port}: {error}", "choose another port") from error


def connect_to_store(host: str, port: int, stop: StopFlag) -> TCPStore:
    """Connect to the leading node's store, as soon as it is open.

    Raises StoppedError after a signal, MachineError (4) if it never opens.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        stop.check("waiting for the other nodes was stopped")
        try:
            return TCPStore(host, port, is_master=False, timeout=timedelta(seconds=POLL_SECONDS))
        except dist.DistError as error:
            if time.monotonic() > deadline:
                raise MachineError(
                    f"no node answers at {host}:{port}: {str(error).splitlines()[0]}",
                    f"start the same command on {host}, and open the port in the firewall",
                ) from error
