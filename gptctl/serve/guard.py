"""What a request must pass before it reaches an endpoint: Host, Origin, key. Every answer is counted.

A page from elsewhere cannot use the server: browsers send its Origin, and a name that was made to point to this machine
(DNS rebinding) is in Host.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from gptctl.serve.metrics import Metrics
from gptctl.serve.requests import RequestError
from gptctl.serve.scheduler import Job

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
JOBS = "gptctl.jobs"  # the key of an ASGI scope that holds the jobs of its request
OPEN_PATHS = ("/", "/health")  # need no key


@dataclass(frozen=True)
class Access:
    """Who may use a server: the keys, one of which a request must have if there are any, and names of the server."""

    keys: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()

    def check(self, path: str, headers: Headers) -> None:
        """Raise RequestError (401, 403) for a request that is not allowed."""
        host = headers.get("host", "")
        if not self.knows_host(host):
            raise RequestError("the Host of the request is no name of this server; see allowed_hosts", status=403)
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            raise RequestError("requests from pages of other servers are refused", status=403)
        if self.keys and path not in OPEN_PATHS and not self.has_key(headers.get("authorization", "")):
            raise RequestError(
                "no valid key; send the header Authorization: Bearer KEY", status=401, code="invalid_api_key"
            )

    def knows_host(self, host: str) -> bool:
        """Return whether a Host is an address, localhost, this machine, or one of `hosts`."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return is_address(name) or name in {"localhost", socket.gethostname().lower(), *map(str.lower, self.hosts)}

    def has_key(self, authorization: str) -> bool:
        """Return whether a header has one of the keys. The time does not tell how much of a key is right."""
        kind, _, given = authorization.partition(" ")
        found = [hmac.compare_digest(given.strip().encode(), key.encode()) for key in self.keys]
        return kind.lower() == "bearer" and any(found)


def is_address(name: str) -> bool:
    """Return whether a name is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """An ASGI application around another one."""

    def __init__(self, app: App, access: Access, metrics: Metrics, paths: Collection[str]) -> None:
        """Take an application with the given paths; requests to others are counted together."""
        self.app, self.access, self.metrics, self.paths = app, access, metrics, paths

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it. When it is over, whatever the reason, its jobs are cancelled."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path = scope["path"] if scope["path"] in self.paths else "other"

        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.metrics.requests[path, message["status"]] += 1
            await send(message)

        jobs: list[Job] = []
        scope[JOBS] = jobs
        try:
            self.access.check(scope["path"], Headers(scope=scope))
            await self.app(scope, receive, count)
        except RequestError as error:
            await error_response(error)(scope, receive, count)
        finally:
            cancel(jobs)
        return None


def cancel(jobs: Sequence[Job]) -> None:
    """Free the places of jobs. Those that are complete stay as they are."""
    for job in jobs:
        job.cancelled = True


def error_response(error: RequestError) -> JSONResponse:
    """Return the answer that refuses a request."""
    return JSONResponse(error.body(), error.status, headers=error.headers)
