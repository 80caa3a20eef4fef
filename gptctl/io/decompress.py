"""Decompress what pyarrow cannot: xz, gzip files padded with zeros, and zstd frames with windows of up to 2 GiB."""

from __future__ import annotations

import gzip
import io
import lzma
import sys
import zlib
from importlib import import_module
from typing import Any, BinaryIO, cast

import pyarrow as pa

ZSTD_MODULE = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
PYARROW_WINDOW_BYTES = 2**27
MAX_WINDOW_LOG = 31
BUFFER_BYTES = 2**18
HEADER_BYTES = 6


class Decompressed(io.RawIOBase):
    """Reads a decompressor of the standard library; all that it raises for damaged data becomes OSError."""

    def __init__(self, source: Any, *errors: type[Exception]) -> None:
        self.source = source
        self.errors: tuple[type[Exception], ...] = (zlib.error, lzma.LZMAError, *errors)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer, and return the number of bytes."""
        try:
            data = self.source.read(len(buffer))
        except EOFError as error:
            raise OSError("Truncated compressed stream") from error
        except self.errors as error:
            raise OSError(str(error)) from error
        buffer[: len(data)] = data
        return len(data)


def open_gzip(file: BinaryIO) -> pa.NativeFile:
    """Return a stream of a gzip file's content. Zeros behind its last member, as tapes leave them, are skipped."""
    return stream_of(gzip.GzipFile(fileobj=file))


def open_xz(file: BinaryIO) -> pa.NativeFile:
    """Return a stream of an xz file's content."""
    return stream_of(lzma.LZMAFile(file))


def open_zstd(file: BinaryIO) -> pa.NativeFile:
    """Return a stream of a zstd file with any window."""
    zstd = import_module(ZSTD_MODULE)
    options = {zstd.DecompressionParameter.window_log_max: MAX_WINDOW_LOG}
    return stream_of(zstd.ZstdFile(file, options=options), zstd.ZstdError)


def stream_of(source: Any, *errors: type[Exception]) -> pa.NativeFile:
    """Return a decompressor as a file of pyarrow. `errors` are those that it raises besides zlib's and lzma's."""
    file = pa.PythonFile(io.BufferedReader(cast(Any, Decompressed(source, *errors)), BUFFER_BYTES), mode="r")
    return pa.BufferedInputStream(file, BUFFER_BYTES)  # which reads to the end without asking for the size


def zstd_window(header: bytes) -> int:
    """Return the window of the first frame of a zstd file, in bytes; 0 if its header has none (RFC 8878, 3.1.1.1)."""
    if not header.startswith(ZSTD_MAGIC) or len(header) < HEADER_BYTES or header[4] & 0x20:
        return 0
    exponent, mantissa = header[5] >> 3, header[5] & 7
    return (1 << (10 + exponent)) * (8 + mantissa) // 8
