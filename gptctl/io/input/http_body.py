"""Decode the bodies of HTTP responses that a crawler stored as they came: in chunks, and compressed.

Crawlers also store decoded bodies under the headers of the encoded ones. So a header counts only if the body agrees.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable, Sequence

from gptctl.io.decompress import ZSTD_MAGIC
from gptctl.io.input.bounded_lines import Readable

CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?\r?\n")
IDENTITY = ("", "identity", "none", "utf-8", "binary", "8bit", "7bit")
READ_BYTES = 2**16


class EncodedBodyError(ValueError):
    """Raised for a body in an encoding that cannot be decoded."""


def decode_body(body: bytes, transfer: Sequence[str], content: Sequence[str], max_bytes: int) -> bytes:
    """Return a body without its encodings, and at most `max_bytes` + 1 bytes of it.

    `transfer` and `content` are the values of Transfer-Encoding and Content-Encoding (RFC 9110, section 8.4). The last
    encoding that they name was applied last. A body that is not in the encoding that a header names is returned as it
    is. Raises EncodedBodyError for an encoding that is unknown, or whose data is damaged.
    """
    for name in reversed([*names_in(content), *names_in(transfer)]):
        if name in IDENTITY or not body:
            continue
        if name not in DECODERS:
            raise EncodedBodyError(f"in the unknown encoding '{name[:40]}'")
        is_encoded, reader = DECODERS[name]
        if is_encoded(body):
            body = read(reader(body), name, max_bytes + 1)
    return body


def names_in(values: Sequence[str]) -> list[str]:
    """Return the encodings that headers name, in the order in which they were applied."""
    return [name.strip().lower() for value in values for name in value.split(",")]


def read(reader: Readable, name: str, size: int) -> bytes:
    """Return what a reader gives, and at most `size` bytes. A body that was cut gives its beginning."""
    parts: list[bytes] = []
    try:
        while size > 0 and (part := reader.read(min(size, READ_BYTES))):
            parts.append(part)
            size -= len(part)
    except (OSError, EOFError, zlib.error) as error:
        if not parts:
            raise EncodedBodyError(f"damaged {name}") from error
    return b"".join(parts)


def is_chunked(body: bytes) -> bool:
    """Return whether a body begins with the size of a chunk that fits into it, or that was cut."""
    found = CHUNK_SIZE.match(body)
    if found is None:
        return False
    end = found.end() + chunk_size(found)
    return body[end : end + 1] in (b"\r", b"\n", b"")


def is_gzip(body: bytes) -> bool:
    """Return whether a body begins as gzip files do."""
    return body.startswith(b"\x1f\x8b")


def is_deflate(body: bytes) -> bool:
    """Return whether a body can be decompressed as "deflate", which servers send with and without zlib's header."""
    try:
        return bool(zlib.decompressobj(window_bits(body)).decompress(body, 64))
    except zlib.error:
        return False


def window_bits(body: bytes) -> int:
    """Return what zlib must be told about a body: whether it has a header of two bytes (RFC 1950)."""
    has_header = len(body) > 1 and body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0
    return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS


def is_zstd(body: bytes) -> bool:
    """Return whether a body begins as zstd files do."""
    return body.startswith(ZSTD_MAGIC)


def is_brotli(body: bytes) -> bool:
    """Return whether the beginning of a body can be decompressed. Brotli has no mark of its own."""
    try:
        return bool(brotli_reader(body).read(1))
    except OSError:
        return False


def chunked_reader(body: bytes) -> Readable:
    """Return a reader of the content of chunks, up to the last one or to where the body was cut (RFC 9112, 7.1)."""
    parts: list[bytes] = []
    position = 0
    while (found := CHUNK_SIZE.match(body, position)) and (size := chunk_size(found)):
        parts.append(body[found.end() : found.end() + size])
        position = found.end() + size
        position += 2 if body[position : position + 2] == b"\r\n" else body[position : position + 1] == b"\n"
    return io.BytesIO(b"".join(parts))


def chunk_size(found: re.Match[bytes]) -> int:
    """Return the size in the line before a chunk."""
    return int(found[1], 16)


def gzip_reader(body: bytes) -> Readable:
    """Return a reader of gzip data."""
    from fastwarc.stream_io import GzipReader

    return GzipReader(io.BytesIO(body))


def zstd_reader(body: bytes) -> Readable:
    """Return a reader of zstd data."""
    from fastwarc.stream_io import ZstdReader

    return ZstdReader(io.BytesIO(body))


def brotli_reader(body: bytes) -> Readable:
    """Return a reader of brotli data."""
    from fastwarc.stream_io import BrotliReader

    return BrotliReader(io.BytesIO(body))


class DeflateReader:
    """Reads "deflate" data."""

    def __init__(self, body: bytes) -> None:
        self.rest = body
        self.decompressor = zlib.decompressobj(window_bits(body))

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, and b"" at the end."""
        data = self.decompressor.decompress(self.rest, size)
        self.rest = self.decompressor.unconsumed_tail
        return data


Decoder = tuple[Callable[[bytes], bool], Callable[[bytes], Readable]]
GZIP: Decoder = (is_gzip, gzip_reader)
DECODERS: dict[str, Decoder] = {
    "chunked": (is_chunked, chunked_reader),
    "gzip": GZIP,
    "x-gzip": GZIP,
    "deflate": (is_deflate, DeflateReader),
    "br": (is_brotli, brotli_reader),
    "zstd": (is_zstd, zstd_reader),
}
