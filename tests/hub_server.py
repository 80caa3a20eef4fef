"""A server on this machine that speaks the API of the Hugging Face hub, for the real client of huggingface_hub."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

TOKEN = "hf_" + "Secret" * 5
ROUTE = re.compile(r"/(?:api/(?P<api>datasets|models)/|(?P<data>datasets/)?)(?P<repo>[\w.-]+/[\w.-]+)(?P<rest>/.*)?")


@dataclass
class Repository:
    """The commits of a repository: the files of each, and the names that branches have for them."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Add a commit with these files, and return its hash."""
        name = hashlib.sha1(repr((sorted(files.items()), len(self.commits))).encode()).hexdigest()
        self.commits[name], self.branches[branch] = files, name
        return name


@dataclass
class Hub:
    """The server, its repositories by kind and name, and the requests that it got."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    elsewhere: str = ""  # another host, that files are redirected to
    failures: int = 0  # how many of the next downloads fail with 503
    cut: int = 0  # after how many bytes the next download breaks off

    def dataset(self, name: str, files: dict[str, bytes]) -> Repository:
        """Add a dataset with one commit."""
        return self._add(f"datasets/{name}", files)

    def model(self, name: str, files: dict[str, bytes]) -> Repository:
        """Add a model with one commit."""
        return self._add(f"models/{name}", files)

    def _add(self, name: str, files: dict[str, bytes]) -> Repository:
        self.repositories[name] = Repository()
        self.repositories[name].commit(files)
        return self.repositories[name]

    def downloads(self) -> list[str]:
        """Return the paths that were downloaded."""
        return [path for method, path, _ in self.requests if method == "GET" and "/resolve/" in path]


class Handler(BaseHTTPRequestHandler):
    """Answers the requests for repositories, their trees and their files."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        """Write nothing."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        """Answer one request."""
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, dict(self.headers)))
        found = ROUTE.fullmatch(path)
        if found is None:
            return self.refuse(404)
        kind = found["api"] or (found["data"] or "models/").strip("/")
        repository = self.hub.repositories.get(f"{kind}/{found['repo']}")
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repository is None or (repository.private and not known):
            return self.refuse(404 if known else 401, "RepoNotFound")
        rest = (found["rest"] or "").split("/")[1:]
        action, revision = (rest[0], rest[1]) if len(rest) > 1 else ("revision", "main")
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            return self.refuse(404, "RevisionNotFound")
        files = repository.commits[commit]
        if action == "revision":
            siblings = [{"rfilename": name} for name in files]
            return self.send({"id": found["repo"], "sha": commit, "siblings": siblings, "tags": [], "gated": False})
        if action == "tree":
            entries = [{"type": "file", "path": p, "size": len(d), "oid": blob(d)} for p, d in files.items()]
            return self.send(entries)
        if repository.gated and not known:
            return self.refuse(403, "GatedRepo")
        return self.file(commit, files, "/".join(rest[2:]))

    def file(self, commit: str, files: dict[str, bytes], name: str) -> None:
        """Answer with a file, or a range of it."""
        if name not in files:
            return self.refuse(404, "EntryNotFound")
        data = files[name]
        headers = {"ETag": f'"{blob(data)}"', "X-Repo-Commit": commit, "X-Linked-Size": str(len(data))}
        if self.hub.elsewhere:
            return self.send(b"", 302, headers | {"Location": f"{self.hub.elsewhere}{self.path}"})
        if self.command == "GET" and self.hub.failures:
            self.hub.failures -= 1
            return self.refuse(503)
        start = int(self.headers.get("Range", "bytes=0-").split("=")[1].split("-")[0])
        status = 206 if start else 200
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.send(data[start:], status, headers)
        return None

    def refuse(self, status: int, code: str = "") -> None:
        """Answer with an error."""
        self.send({"error": code or "unknown"}, status, {"X-Error-Code": code} if code else {})

    def send(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Send an answer: bytes, or anything else as JSON."""
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            is_cut = self.hub.cut and len(data) > self.hub.cut
            self.wfile.write(data[: self.hub.cut] if is_cut else data)
            if is_cut:
                self.hub.cut, self.close_connection = 0, True


def blob(data: bytes) -> str:
    """Return git's hash of a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def serve() -> Iterator[Hub]:
    """Run a hub on a port of this machine."""
    hub = Hub()
    handler = type("BoundHandler", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def environment(hub: Hub, home: Path) -> dict[str, str]:
    """Return the variables with which a command finds this hub, with a cache of its own."""
    return {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_TOKEN": ""}


def use(hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch, offline: bool = False) -> None:
    """Let this process use a hub, as `environment` does for another: huggingface_hub reads variables when imported."""
    from huggingface_hub import constants

    from gptctl.io.hub import client, data_files

    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    for known in (client.pin, client.files_of, data_files.select, data_files.configs_of):
        known.cache_clear()
