"""Connections through real sockets: slow and endless headers, idle connections, bytes that are no request."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

pytest.importorskip("uvicorn", reason="the extra serve is not installed")

from gptctl.infer.decoder import Decoder
from gptctl.infer.generator import TextGenerator
from gptctl.infer.sampling import SamplingParams
from gptctl.serve import connections
from gptctl.serve.app import make_app
from gptctl.serve.guard import Access
from gptctl.serve.jobs import ServedModel
from gptctl.serve.scheduler import Scheduler
from tests.serve.conftest import on_socket

HEAD = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
WAIT = 60  # seconds, after which a test fails rather than hangs

Connect = Callable[[], socket.socket]


@pytest.fixture
def listening(generator: TextGenerator, caplog: pytest.LogCaptureFixture) -> Iterator[Callable[..., object]]:
    """Serve at most three connections; nothing may be written to the log."""

    @contextmanager
    def started() -> Iterator[Connect]:
        model, decoder = ServedModel(generator, "tiny", SamplingParams()), generator.engine.model
        assert isinstance(decoder, Decoder)
        scheduler = Scheduler(decoder, model.tokenizer, model.stop_ids, 2, 4)
        app = make_app(model, scheduler, Access())
        with on_socket(app, scheduler, max_connections=3) as port, ExitStack() as opened:
            yield lambda: opened.enter_context(socket.create_connection(("127.0.0.1", port), WAIT))

    yield started
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def rest_of(connection: socket.socket) -> bytes:
    """Return what arrives until the server closes the connection."""
    found = b""
    try:
        while piece := connection.recv(2**16):
            found += piece
    except ConnectionResetError:
        pass
    return found


def answer_of(connection: socket.socket) -> tuple[int, dict[str, object]]:
    """Read one answer, whose body is JSON."""
    found = b""
    while b"}" not in found.partition(b"\r\n\r\n")[2]:
        piece = connection.recv(2**16)
        assert piece, found
        found += piece
    head, _, body = found.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def send_slowly(connection: socket.socket, data: bytes) -> None:
    """Send byte by byte until the server closes the connection, which it must do before the end."""
    connection.settimeout(0.02)
    with pytest.raises(ConnectionError):
        for byte in data:
            connection.sendall(bytes([byte]))
            try:
                if connection.recv(1) == b"":
                    raise ConnectionError
            except TimeoutError:
                pass


@pytest.mark.parametrize("earlier", [0, 2], ids=["first request", "later request"])
def test_a_header_that_comes_byte_by_byte_is_not_waited_for(
    earlier: int, listening: Callable[..., Iterator[Connect]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is sent meanwhile. A connection without a byte is closed too."""
    with listening() as connect:
        if earlier:
            connection = connect()
            for _ in range(earlier):
                connection.sendall(HEAD + b"\r\n")
                assert answer_of(connection)[0] == 200
        monkeypatch.setattr(connections, "HEADER_SECONDS", 0.5)
        connection, silent = connection if earlier else connect(), connect()
        send_slowly(connection, HEAD + b"X: " + b"a" * 10**4)
        assert rest_of(silent) == b""


def test_a_body_that_nobody_reads_is_not_waited_for(
    listening: Callable[..., Iterator[Connect]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer was sent at once."""
    with listening() as connect:
        connection = connect()
        connection.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n")
        assert answer_of(connection)[0] == 200
        monkeypatch.setattr(connections, "HEADER_SECONDS", 0.5)
        send_slowly(connection, b" " * 10**4)


def test_idle_connections_make_room_for_new_ones(listening: Callable[..., Iterator[Connect]]) -> None:
    """The one that has waited longest is closed; if all have requests, the new one is refused."""
    with listening() as connect:
        first, second, third = connect(), connect(), connect()
        for connection in (second, third, first):
            connection.sendall(HEAD + b"\r\n")
            assert answer_of(connection)[0] == 200
        fourth = connect()
        fourth.sendall(HEAD + b"\r\n")
        assert answer_of(fourth)[0] == 200
        assert rest_of(second) == b""
        for connection in (first, third, fourth):
            connection.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
                b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n"
            )
            assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        status, body = answer_of(connect())
        assert (status, body["error"]["message"]) == (503, "too many connections; try again later")  # type: ignore[index]


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        b"get\x00 / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /" + b"a" * 2**17,
        HEAD + b"X: " + b"a" * 2**17,
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ],
    ids=["TLS", "no Host", "control character", "long path", "long header", "negative length", "two lengths", "chunk"],
)
def test_bytes_that_are_no_request_are_refused(sent: bytes, listening: Callable[..., Iterator[Connect]]) -> None:
    """With OpenAI's JSON, and the connection is closed. The server goes on."""
    with listening() as connect:
        connection = connect()
        connection.sendall(sent)
        found = rest_of(connection)
        if found:  # a client that still sends may lose the answer
            head, _, body = found.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 400 ") and b"Connection: close" in head
            assert json.loads(body)["error"]["message"] == "this is no valid HTTP request"
        again = connect()
        again.sendall(HEAD + b"\r\n")
        assert answer_of(again) == (200, {"status": "ok"})


def test_bytes_that_are_no_request_behind_one_that_runs(listening: Callable[..., Iterator[Connect]]) -> None:
    """A body is cut off by closing, or the second request is nonsense: nothing is logged, and the server goes on."""
    body = json.dumps({"model": "tiny", "prompt": "the", "max_tokens": 100, "stream": True, "seed": 1}).encode()
    post = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
    with listening() as connect:
        for sent in (post + b"1000\r\n\r\n{", post + b"%d\r\n\r\n" % len(body) + body + b"\0\0\r\n\r\n"):
            connection = connect()
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            rest_of(connection)
        again = connect()
        again.sendall(HEAD + b"\r\n")
        assert answer_of(again) == (200, {"status": "ok"})
