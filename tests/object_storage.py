"""A real S3 server on this machine (moto), for tests that read and write object storage."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

import pyarrow.fs as pafs
import pytest

NUMBERS = itertools.count(1)  # of buckets: all servers of a process hold the same ones
KEY, SECRET = "AKIATEST", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


def log_in(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Return the credentials as users do, and a cache of the test's own."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("GPTCTL_CACHE", str(cache))


@dataclass
class Storage:
    """The server, and a view of it that does not go through gptctl."""

    host: str
    system: pafs.S3FileSystem

    def bucket(self) -> str:
        """Make an empty bucket."""
        name = f"bucket-{next(NUMBERS)}"
        self.system.create_dir(name)
        return name

    def uri(self, path: str, login: str = "") -> str:
        """Return the URI of BUCKET/PATH."""
        return f"s3://{login}{path}?endpoint_override={self.host}&scheme=http"

    def put(self, path: str, data: bytes) -> None:
        """Store an object."""
        with self.system.open_output_stream(path, compression=None) as file:
            file.write(data)

    def written(self, path: str) -> dict[str, int]:
        """List the objects below a path, by their names below it, and when each was written, in ns."""
        found = self.system.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
        return {info.path[len(path) + 1 :]: info.mtime_ns for info in found if info.is_file}

    def tree(self, path: str) -> dict[str, bytes]:
        """Read all objects below a path."""
        return {name: self.system.open_input_file(f"{path}/{name}").read() for name in self.written(path)}

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Refuse every request meanwhile, as a server does that knows none of our keys."""
        self._demand_rights(b"0")
        try:
            yield
        finally:
            self._demand_rights(b"inf")

    def _demand_rights(self, after: bytes) -> None:
        headers = {"Content-Type": "text/plain"}
        urlopen(Request(f"http://{self.host}/moto-api/reset-auth", data=after, headers=headers)).close()


@contextmanager
def serve() -> Iterator[Storage]:
    """Run a server on a free port, in a thread of this process."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host = "{}:{}".format(*server.get_host_and_port())
    system = pafs.S3FileSystem(
        access_key=KEY, secret_key=SECRET, endpoint_override=host, scheme="http", region="us-east-1",
        allow_bucket_creation=True,
    )  # fmt: skip
    try:
        yield Storage(host, system)
    finally:
        server.stop()
