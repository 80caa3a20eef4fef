"""A Redis server of our own, for tests that need a real one."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

import pytest

PASSWORD = "se/cret"


@contextmanager
def running() -> Iterator[str]:
    """Start a server with a password, on a socket; give its URL. Skips the test where the program is not installed."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    redis = pytest.importorskip("redis")
    with TemporaryDirectory() as folder:
        path = f"{folder}/redis.sock"
        server = subprocess.Popen(
            [program, "--port", "0", "--unixsocket", path, "--requirepass", PASSWORD, "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        try:
            url = f"unix://:{PASSWORD.replace('/', '%2F')}@{path}"
            for _ in range(200):
                try:
                    redis.Redis.from_url(url).ping()
                    break
                except redis.ConnectionError:
                    time.sleep(0.05)
            yield url
        finally:
            server.terminate()
            server.wait(10)
