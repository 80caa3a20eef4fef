"""URIs of the Hugging Face hub: hf://datasets/OWNER/NAME[@REVISION][/PATH][?config=NAME&split=NAME], hf://OWNER/MODEL."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import parse_qsl, quote, unquote, urlencode

from gptctl.core.errors import UsageError

SCHEME = "hf://"
FORM = "write hf://datasets/OWNER/NAME@REVISION/PATH for data, and hf://OWNER/NAME@REVISION for a model"
NAME = r"(?![^/@]*(?:--|\.\.))[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
# A slash in a revision is written %2F, except in the names that the hub itself gives to references.
REPOSITORY = re.compile(
    rf"(?P<kind>datasets/|models/)?(?P<repo>(?!(?:datasets|models|spaces|buckets|kernels)/){NAME}/{NAME})"
    r"(?:@(?P<revision>refs/(?:pr/\d+|convert/[\w.-]+)|[^/@]+))?(?:/(?P<path>.*))?",
    re.S,
)
COMMIT = re.compile(r"[0-9a-f]{40}")


def is_hub(path: object) -> bool:
    """Return whether a path is a URI of the hub."""
    return isinstance(path, str) and path.startswith(SCHEME)


@dataclass(frozen=True)
class HubUri:
    """The parts of a URI of the hub. `path` may be empty, a file, a folder or a glob.

    `config` and `split` name a part of a dataset as its card or its file names divide it, or are empty.
    """

    kind: Literal["dataset", "model"]
    repo: str
    revision: str = "main"
    path: str = ""
    config: str = ""
    split: str = ""

    @classmethod
    def parse(cls, uri: str) -> HubUri:
        """Parse a URI. Raises UsageError (2) for anything else than a dataset or a model."""
        place, _, query = uri.removeprefix(SCHEME).partition("?")
        found = REPOSITORY.fullmatch(place.rstrip("/"))
        if found is None:
            raise UsageError(f"{uri} names no dataset and no model of the Hugging Face hub", FORM)
        given = dict(parse_qsl(query, keep_blank_values=True))
        is_dataset = found["kind"] == "datasets/"
        if unknown := [name for name in given if name not in ("config", "split") or not is_dataset]:
            raise UsageError(f"{uri} has an unknown parameter '{unknown[0]}'", "datasets have config= and split=")
        return cls(
            kind="dataset" if is_dataset else "model",
            repo=found["repo"],
            revision=unquote(found["revision"] or "main"),
            path=unquote(found["path"] or "").strip("/"),
            config=given.get("config", ""),
            split=given.get("split", ""),
        )

    @property
    def is_pinned(self) -> bool:
        """Return whether the revision is a commit, which never changes."""
        return COMMIT.fullmatch(self.revision) is not None

    def at(self, path: str) -> HubUri:
        """Return the URI of another path in the same repository, without config and split."""
        return replace(self, path=path, config="", split="")

    def __str__(self) -> str:
        prefix = "datasets/" if self.kind == "dataset" else ""
        query = urlencode({name: value for name in ("config", "split") if (value := getattr(self, name))})
        path = f"/{quote(self.path, safe='/=,:+!@()*~[]')}" if self.path else ""
        return f"{SCHEME}{prefix}{self.repo}@{quote(self.revision, safe='')}{path}{'?' if query else ''}{query}"
