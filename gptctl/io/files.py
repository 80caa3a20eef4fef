"""Files, local or in object storage, compressed or not: open, read and hash them."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs
import xxhash

from gptctl.core.errors import STORAGE_ERROR, DataError, GptctlError, from_os_error
from gptctl.core.redact import redact
from gptctl.core.regular_files import read_regular
from gptctl.core.written_files import FileState, file_hash, file_state
from gptctl.io import decompress
from gptctl.io.hub import client
from gptctl.io.hub.uri import HubUri, is_hub
from gptctl.io.object_storage.address import Address, filesystem, is_uri

CODECS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4", ".xz": "xz"}
MAX_KNOWN_HASHES = 100_000
ALWAYS_HASHED = 64 * 2**20  # bytes: hashed in 6 ms; a file that is not larger is read each time its hash is asked for
CHUNK_BYTES = 4 * 2**20
# What pyarrow raises for damaged data. A damaged size can ask for more memory than there is, and the name of a column
# can be invalid UTF-8.
UNREADABLE = (pa.ArrowException, OSError, UnicodeDecodeError)


def plain_path(argument: str) -> str:
    """Return the local path that a file:// URI names, and anything else unchanged."""
    return unquote(urlsplit(argument).path) if argument.startswith("file://") else argument


def split_suffixes(name: str) -> tuple[str, str | None]:
    """Return the suffix of the format, and the codec: (".jsonl", "zstd") for "a.jsonl.zst"."""
    path = PurePosixPath((Address.parse(name).path if is_uri(name) else name).lower())
    codec = CODECS.get(path.suffix)
    return (PurePosixPath(path.stem).suffix if codec else path.suffix), codec


def open_stream(path: str) -> pa.NativeFile:
    """Open a file for reading from its start, decompressed as its name says."""
    codec = split_suffixes(path)[1]
    if codec == "gzip":
        return decompress.open_gzip(open_raw(path))
    if codec == "xz":
        return decompress.open_xz(open_raw(path))
    if codec == "zstd":
        with open_raw(path) as file:
            header = file.read(decompress.HEADER_BYTES)
        if decompress.zstd_window(header) > decompress.PYARROW_WINDOW_BYTES:
            return decompress.open_zstd(open_raw(path))
    return open_raw(path, codec)


def open_raw(path: str, codec: str | None = None) -> pa.NativeFile:
    """Open a file for reading from its start. In object storage, each request fetches 4 MiB."""
    system, inner = filesystem(path)
    try:
        return system.open_input_stream(inner, compression=codec, buffer_size=CHUNK_BYTES if is_uri(path) else None)
    except OSError as error:
        raise from_os_error(error, path) from error


def open_seekable(path: str, window_bytes: int = 0) -> Any:
    """Open an uncompressed file for reading at any position.

    In object storage each read is a request, unless `window_bytes` sets the number of bytes to fetch at a time.
    """
    system, inner = filesystem(path)
    try:
        if isinstance(system, pafs.LocalFileSystem):
            return pa.memory_map(inner)
        file = system.open_input_file(inner)
        return io.BufferedReader(file, window_bytes) if window_bytes else file
    except OSError as error:
        raise from_os_error(error, path) from error


def read_all(path: str, max_bytes: int) -> bytes | None:
    """Read a whole small file, decompressed, or return None if it is longer than `max_bytes`."""
    try:
        with open_stream(path) as file:
            chunks: list[bytes] = []
            left = max_bytes + 1
            # A read of n bytes allocates n bytes at once, however short the file is.
            while chunk := file.read(min(left, CHUNK_BYTES)):
                chunks.append(chunk)
                left -= len(chunk)
            return b"".join(chunks) if left else None
    except OSError as error:
        raise damaged(path, error) from error


def read_if_exists(path: str, max_bytes: int | None = None) -> bytes | None:
    """Read a whole file as it is stored, or return None if it does not exist.

    Of a file with more than `max_bytes`, return the first `max_bytes` + 1 bytes. Raises DataError (3) for a pipe, a
    device or a socket.
    """
    try:
        if not is_uri(path):
            return read_regular(path, max_bytes)
        system, inner = filesystem(path)
        with system.open_input_file(inner) as file:
            return file.read(None if max_bytes is None else min(max_bytes + 1, file.size()))  # type: ignore[no-any-return]
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a name that no file can have
        return None
    except OSError as error:
        raise from_os_error(error, path) from error


def content_hash(path: str) -> str:
    """Return the hash of a file's bytes as they are stored (xxh3, 128 bits).

    A process does not read a local file of more than 64 MiB again while its `file_state` is the same.
    """
    if is_uri(path):
        return read_hash(path)
    state = file_state(Path(path))
    return file_hash(Path(path)) if state.size <= ALWAYS_HASHED else known_hash(path, state)


@lru_cache(MAX_KNOWN_HASHES)
def known_hash(path: str, state: FileState) -> str:
    """Return the hash of a local file that had this state before it was read."""
    return file_hash(Path(path))


def read_hash(path: str) -> str:
    """Read a file and return the hash of its bytes."""
    if not is_uri(path):
        return file_hash(Path(path))
    digest = xxhash.xxh3_128()
    try:
        with open_raw(path) as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise from_os_error(error, path) from error
    return digest.hexdigest()


def object_fingerprint(uri: str) -> str:
    """Identify the content of an object without reading it, by its size and its ETag, or its time if it has no ETag.

    That of a file of the hub has the hash that git keeps, so it is the same at every commit that has the file.
    """
    if is_hub(uri):
        place = client.pin(HubUri.parse(uri))
        if found := client.file_at(place):
            return f"{found.size} B, git {found.blob}"
    system, inner = filesystem(uri)
    try:
        with system.open_input_file(inner) as file:
            size, tag = file.size(), (file.metadata() or {}).get("ETag", b"").decode().strip('"')
        return f"{size} B, ETag {tag}" if tag else f"{size} B, {system.get_file_info(inner).mtime_ns} ns"
    except OSError as error:
        raise from_os_error(error, uri) from error


def damaged(path: str, error: Exception) -> GptctlError:
    """Return the error for a file that is not what its name promises, or whose storage failed while it was read."""
    if isinstance(error, OSError) and is_uri(path) and (error.errno or STORAGE_ERROR.search(str(error))):
        return from_os_error(error, path)
    words = redact(" ".join(str(error).split()))[:160]
    return DataError(f"cannot read {path}: {words}", "the file is damaged or not of the kind its name says")
