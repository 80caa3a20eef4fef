"""Run a server: uvicorn answers requests in a thread of its own, and the main thread generates.

The main thread handles signals. After the first one no new requests are taken, and those that run are finished, for at
most a given time.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from gptctl.core.config import Values
from gptctl.core.context import Context
from gptctl.core.errors import DataError, MachineError, UsageError
from gptctl.serve.app import make_app
from gptctl.serve.connections import IDLE_SECONDS, MAX_HEADER_BYTES, Connection
from gptctl.serve.guard import Access, App
from gptctl.serve.jobs import ServedModel
from gptctl.serve.scheduler import Scheduler

BACKLOG = 128
CLOSING_SECONDS = 5.0  # for answers that are written when everything has been generated


@dataclass(frozen=True)
class Address:
    """Where a server listens."""

    host: str
    port: int

    def listen(self) -> socket.socket:
        """Return a listening socket. Raises UsageError (2) without an address, MachineError (4) if it is in use."""
        try:
            family, *_, address = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)[0]
            return socket.create_server(address[:2], family=family, backlog=BACKLOG)
        except (socket.gaierror, UnicodeError) as error:
            raise UsageError(f"--host {self.host} is no address of this machine", "use 127.0.0.1") from error
        except OSError as error:
            raise MachineError(
                f"cannot listen on {self.host} port {self.port}: {error.strerror}", "choose another port with --port"
            ) from error

    def is_loopback(self) -> bool:
        """Return whether only this machine can reach the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def url(self, port: int) -> str:
        """Return the address as a URL with the port that is used."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{port}"


def read_keys(path: str | None) -> tuple[str, ...]:
    """Read the keys of a file, one on each line. Raises UsageError (2) for no file, DataError (3) for no usable key."""
    if path is None:
        return ()
    try:
        keys = tuple(Path(path).read_text(encoding="utf-8").split())
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8", "write one key on each line") from error
    except OSError as error:
        raise UsageError(f"cannot read --api-key-file {path}: {error.strerror}", "check the path") from error
    if not keys or not all(key.isascii() for key in keys):
        raise DataError(f"{path} contains no key, or one that is not ASCII", "write one key on each line")
    return keys


@dataclass(frozen=True)
class Options:
    """Where a server listens, who may use it, and how long requests may take to finish after a signal."""

    address: Address
    access: Access
    drain_seconds: float
    max_connections: int


def serve(
    model: ServedModel, scheduler: Scheduler, options: Options, listening: socket.socket, context: Context
) -> Values:
    """Serve a model until a signal arrives. Return what was done. Raises MachineError (4) if uvicorn ends by itself."""
    address = options.address
    if not options.access.keys and not address.is_loopback():
        context.warn(f"everyone who reaches {address.host} can use the model; give --api-key-file FILE")
    web = WebThread(make_app(model, scheduler, options.access), listening, options.max_connections)
    web.start()
    url = address.url(listening.getsockname()[1])
    context.info(f"serving {model.name} at {url}/v1, with a chat page at {url}/; Ctrl-C ends it")
    if not run(scheduler, web, lambda: context.stop.signal_number is not None, options.drain_seconds):
        context.warn(f"requests that did not finish within {options.drain_seconds:g} s were ended with an error")
    metrics = scheduler.metrics
    return {
        "requests": metrics.requests.total(),
        "prompt_tokens": metrics.prompt_tokens,
        "generated_tokens": metrics.generated_tokens,
    }


def run(scheduler: Scheduler, web: WebThread, is_stopped: Callable[[], bool], drain_seconds: float) -> bool:
    """Generate until a signal arrives and what runs is finished. Return whether it was finished in time."""
    deadline = float("inf")

    def should_end() -> bool:
        nonlocal deadline
        if not web.is_alive():
            return True
        if is_stopped() and not scheduler.closed:
            scheduler.close()
            deadline = time.monotonic() + drain_seconds
        return scheduler.closed and (scheduler.is_idle or time.monotonic() > deadline)

    scheduler.run(should_end)
    if not scheduler.closed:
        raise MachineError("the HTTP server ended by itself", "see the messages above")
    finished = time.monotonic() <= deadline
    web.end()
    return finished


class WebThread(threading.Thread):
    """uvicorn in a thread, where it leaves signals alone."""

    def __init__(self, app: App, listening: socket.socket, max_connections: int) -> None:
        super().__init__(daemon=True)
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", ws="none", server_header=False, proxy_headers=False,
            timeout_graceful_shutdown=int(CLOSING_SECONDS), loop="asyncio", http=Connection,
            timeout_keep_alive=IDLE_SECONDS, h11_max_incomplete_event_size=MAX_HEADER_BYTES,
            limit_concurrency=max_connections + 1,
        )  # fmt: skip
        self.server, self.listening = uvicorn.Server(config), listening

    def run(self) -> None:
        """Answer requests until `end` is called."""
        self.server.run(sockets=[self.listening])

    def end(self) -> None:
        """Take no more connections, write what is left of answers, and end."""
        self.server.should_exit = True
        self.join(2 * CLOSING_SECONDS)
