"""Connections in bounded number, and each for a bounded time without a request.

uvicorn bounds the time between two requests. It would wait for ever for the first request, for the rest of a header
whose bytes come slowly, and for the rest of a body that nobody reads.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from gptctl.serve.requests import RequestError

HEADER_SECONDS = 10.0  # from a connection, or the first byte of a later request, to the end of its header
IDLE_SECONDS = 60  # between two requests
MAX_HEADER_BYTES = 16 * 2**10


class Connection(H11Protocol):
    """A connection, which is closed if no request arrives in time.

    uvicorn's limit_concurrency is one more than the connections that may be open. If there are too many, the one that
    has waited longest for a request is closed; if all of them have requests, the new one gets 503.
    """

    timer: asyncio.TimerHandle | None = None
    waiting_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, if there is room for the connection."""
        super().connection_made(transport)
        self.begin_waiting()
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            self.make_room()

    def data_received(self, data: bytes) -> None:
        """Pass bytes on. Those that complete no header do not prolong the time that it may take."""
        super().data_received(data)
        if self.has_request():
            self.stop_timer()
        elif self.timer is None:
            self.begin_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.stop_timer()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Wait for the next request, if the client has not already begun one."""
        self.waiting_since = self.loop.time()
        super().on_response_complete()

    def has_request(self) -> bool:
        """Return whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def begin_waiting(self) -> None:
        """Close the connection if there is no complete header in time."""
        self.waiting_since = self.loop.time()
        self.timer = self.loop.call_later(HEADER_SECONDS, self.on_time_over)

    def stop_timer(self) -> None:
        """Stop waiting for a header."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def on_time_over(self) -> None:
        """Close a connection without a request."""
        self.timer = None
        if not self.has_request():
            self.transport.close()

    def make_room(self) -> None:
        """Close the connection that has waited longest for a request, or this one if there is no other."""
        others = [one for one in self.connections if isinstance(one, Connection) and one is not self]
        waiting = [one for one in others if not one.has_request() and not one.transport.is_closing()]
        if waiting:
            min(waiting, key=lambda one: one.waiting_since).transport.abort()
        else:
            self.refuse(RequestError("too many connections; try again later", status=503, Retry_After="1"))

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are no request."""
        self.refuse(RequestError("this is no valid HTTP request"))

    def refuse(self, error: RequestError) -> None:
        """Answer with an error, unless an answer has begun, and close the connection."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps(error.body()).encode()
            headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
            events: tuple[Any, ...] = (
                h11.Response(status_code=error.status, headers=[*headers.items(), *error.headers.items()]),
                h11.Data(data=body),
                h11.EndOfMessage(),
            )
            for event in events:
                self.transport.write(self.conn.send(event) or b"")
        if self.has_request():
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()
