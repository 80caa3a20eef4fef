"""Open local files, compressed files and object storage alike."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.fs as pafs
import xxhash

from gptctl.core.errors import DataError, UsageError, from_os_error

CODECS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4"}
CHUNK_BYTES = 4 * 2**20


def is_uri(path: str) -> bool:
    """Tell s3://bucket/key and the like from a local path."""
    return "://" in path


def filesystem(path: str) -> tuple[pafs.FileSystem, str]:
    """Give the file system of a path or URI, and the path inside it."""
    if not is_uri(path):
        return pafs.LocalFileSystem(), str(Path(path))
    try:
        return pafs.FileSystem.from_uri(path)  # type: ignore[no-any-return]
    except (pa.ArrowInvalid, OSError) as error:
        raise UsageError(
            f"cannot open {path}: {error}", "s3://bucket/key and other URIs of pyarrow.fs are understood"
        ) from error


def split_suffixes(name: str) -> tuple[str, str | None]:
    """Give the format suffix and the codec: "a.jsonl.zst" gives (".jsonl", "zstd")."""
    path = PurePosixPath(name.lower())
    codec = CODECS.get(path.suffix)
    return (PurePosixPath(path.stem).suffix if codec else path.suffix), codec


def open_stream(path: str) -> pa.NativeFile:
    """Open a file for reading from its start, decompressing it if its name says so."""
    system, inner = filesystem(path)
    codec = split_suffixes(path)[1]
    try:
        return system.open_input_stream(inner, compression=codec)
    except OSError as error:
        raise from_os_error(error, path) from error


def open_random(path: str) -> pa.NativeFile:
    """Open an uncompressed file for reading at any position."""
    system, inner = filesystem(path)
    try:
        return pa.memory_map(inner) if isinstance(system, pafs.LocalFileSystem) else system.open_input_file(inner)
    except OSError as error:
        raise from_os_error(error, path) from error


def read_all(path: str, max_bytes: int) -> bytes | None:
    """Read a whole small file, decompressed; None if it is longer than `max_bytes`."""
    try:
        with open_stream(path) as file:
            data: bytes = file.read(max_bytes + 1)
            return None if len(data) > max_bytes else data
    except OSError as error:
        raise damaged(path, error) from error


def content_hash(path: str) -> str:
    """Hash a file's bytes as they are stored (xxh3, 128 bits)."""
    digest = xxhash.xxh3_128()
    system, inner = filesystem(path)
    try:
        with system.open_input_stream(inner, compression=None) as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise from_os_error(error, path) from error
    return digest.hexdigest()


def damaged(path: str, error: Exception) -> DataError:
    """Say that a file is not what its name promises."""
    words = " ".join(str(error).split())[:160]
    return DataError(f"cannot read {path}: {words}", "the file is damaged or not of the kind its name says")
