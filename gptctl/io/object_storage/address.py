"""Addresses in object storage: s3://[KEY:SECRET@]BUCKET/PATH[?endpoint_override=HOST:PORT&scheme=http&region=...].

Other URIs that pyarrow.fs knows (gs, abfs, hdfs and others) are passed to it unchanged. Credentials are looked for
where AWS's own tools look: environment, ~/.aws, the role of the machine. S3 requests are retried as in AWS's SDK.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

import pyarrow as pa
import pyarrow.fs as pafs

from gptctl.core.errors import UsageError, from_os_error
from gptctl.core.redact import HIDDEN, redact
from gptctl.io.hub import client, folders
from gptctl.io.hub.uri import HubUri, is_hub

ADDRESS = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:(?P<user>[^/:@?]*):(?P<password>[^@?]*)@)?(?P<path>[^?]*)")
# With these a dead host fails after some 20 s, and one that accepts connections but never answers after 50 s.
CONNECT_SECONDS = 4.0
SILENCE_SECONDS = 10.0
ATTEMPTS = 4
SWITCHES = ("anonymous", "allow_bucket_creation", "force_virtual_addressing")
PARAMETERS = ("endpoint_override", "scheme", "region", "role_arn", "session_name", "external_id", "tls_ca_file_path")


@dataclass(frozen=True)
class Address:
    """The parts of a URI. `path` is BUCKET/PATH, unquoted, without a slash at either end."""

    scheme: str
    user: str
    password: str
    path: str
    query: str

    @classmethod
    def parse(cls, uri: str) -> Address:
        """Parse a URI, whose secret key may contain a bare "/". Raises UsageError (2) for anything else."""
        place, _, query = uri.partition("?")
        found = ADDRESS.fullmatch(place)
        path = unquote(found["path"]).strip("/") if found else ""
        if found is None or not path:
            raise UsageError(f"{uri} names no place", "write it like s3://bucket/path")
        return cls(found["scheme"], unquote(found["user"] or ""), unquote(found["password"] or ""), path, query)

    def at(self, path: str) -> Address:
        """Return the address of another path in the same storage."""
        return replace(self, path=path)

    def __str__(self) -> str:
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}@" if self.user or self.password else ""
        query = f"?{self.query}" if self.query else ""
        return f"{self.scheme}://{login}{quote(self.path, safe='/=,:+!@()*~')}{query}"


def is_uri(path: str | Path) -> bool:
    """Return whether this is a URI such as s3://bucket/key, as opposed to a local path."""
    return isinstance(path, str) and "://" in path


def join(folder: str | Path, name: str) -> str:
    """Return the path or URI of a file in a folder."""
    if not is_uri(folder):
        return str(Path(folder) / name)
    address = Address.parse(str(folder))
    return str(address.at(f"{address.path}/{name}"))


def base_name(path: str) -> str:
    """Return the last part of a path or URI."""
    if is_hub(path):
        return folders.base_name(HubUri.parse(path))
    return Path(Address.parse(path).path if is_uri(path) else path).name


def parent(path: str) -> str:
    """Return the folder that contains a path or URI."""
    if not is_uri(path):
        return str(Path(path).parent)
    address = Address.parse(path)
    return str(address.at(address.path.rpartition("/")[0] or address.path))


def filesystem(path: str) -> tuple[pafs.FileSystem, str]:
    """Return the file system of a path or URI, and the path within it. A file of the hub is downloaded first.

    Raises UsageError (2) for an unknown kind, FileNotFoundError for what the hub does not have.
    """
    if not is_uri(path):
        return pafs.LocalFileSystem(), str(Path(path))
    if is_hub(path):
        return pafs.LocalFileSystem(), str(client.fetch(HubUri.parse(path)))
    address = Address.parse(path)
    if address.password == HIDDEN:
        raise UsageError(
            f"the secret key of {path} was hidden when it was written down",
            "leave it out, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    if address.scheme == "s3":
        return connect(replace(address, path=address.path.split("/")[0])), address.path
    try:
        return pafs.FileSystem.from_uri(str(address))  # type: ignore[no-any-return]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise unusable(path, error) from error


@lru_cache(maxsize=16)
def connect(bucket: Address) -> pafs.S3FileSystem:
    """Open a bucket's storage, once per process, because each new connection looks for credentials again."""
    given = dict(parse_qsl(bucket.query, keep_blank_values=True))
    unknown = [name for name in given if name not in (*SWITCHES, *PARAMETERS)]
    if unknown:
        known = ", ".join((*PARAMETERS, *SWITCHES))
        raise UsageError(f"{bucket} has an unknown parameter '{unknown[0]}'", f"known are: {known}")
    options: dict[str, Any] = {name: given[name] for name in PARAMETERS if name in given}
    options |= {name: given[name].lower() in ("true", "1") for name in SWITCHES if name in given}
    if bucket.user or bucket.password:
        options |= {"access_key": bucket.user, "secret_key": bucket.password}
    elsewhere = any(os.environ.get(name) for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"))
    if not elsewhere and not given.keys() & {"region", "endpoint_override"}:
        with suppress(OSError):  # without the permission to ask, AWS_REGION and the profile decide
            options["region"] = pafs.resolve_s3_region(bucket.path)
    patience = {
        "connect_timeout": CONNECT_SECONDS,
        "request_timeout": SILENCE_SECONDS,
        "retry_strategy": pafs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
    }
    try:
        # A delayed open needs one request for a small file, instead of three.
        return pafs.S3FileSystem(**options, **patience, allow_delayed_open=True)
    except (pa.ArrowInvalid, ValueError, OSError) as error:
        raise unusable(str(bucket), error) from error


def unusable(uri: str, error: Exception) -> UsageError:
    """Return the error for a URI that cannot be opened."""
    reason = redact(" ".join(str(error).split()))[:160]
    return UsageError(f"cannot open {uri}: {reason}", "s3://bucket/key and other URIs of pyarrow.fs are understood")


def file_info(path: str) -> pafs.FileInfo:
    """Return the type (NotFound, File, Directory) and the size of a path or URI."""
    if is_hub(path):
        return folders.file_info(HubUri.parse(path))
    system, inner = filesystem(path)
    try:
        return system.get_file_info(inner)
    except OSError as error:
        raise from_os_error(error, path) from error


def list_files(uri: str, recursive: bool = True) -> list[pafs.FileInfo]:
    """Return what lies below a URI, or nothing if it does not exist. Raises UsageError (2) if the bucket is missing."""
    if is_hub(uri):
        return folders.list_files(HubUri.parse(uri), recursive)
    system, inner = filesystem(uri)
    try:
        found: list[pafs.FileInfo] = system.get_file_info(
            pafs.FileSelector(inner, recursive=recursive, allow_not_found=True)
        )
    except OSError as error:
        raise from_os_error(error, uri) from error
    return found


def list_folder(folder: str) -> dict[str, str]:
    """Return the paths or URIs of a folder's entries by name, sorted, or nothing if it is not a folder."""
    if is_uri(folder):
        address = Address.parse(folder)
        found = {info.base_name: str(address.at(info.path)) for info in list_files(folder, recursive=False)}
        return dict(sorted(found.items()))
    path = Path(folder)
    return {entry.name: str(entry) for entry in sorted(path.iterdir())} if path.is_dir() else {}
