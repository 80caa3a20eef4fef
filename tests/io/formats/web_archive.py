"""Write WARC files as crawlers do."""

from __future__ import annotations

HTTP = "application/http; msgtype=response"


def record(kind: str, content_type: str, block: bytes, number: int = 0, url: str = "http://example.org/") -> bytes:
    """Return a WARC record."""
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2025-01-01T00:00:00Z\r\n"
        f"WARC-Record-ID: <urn:uuid:00000000-0000-4000-8000-{number:012d}>\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(block)}\r\n\r\n"
    )
    return head.encode() + block + b"\r\n\r\n"


def response(body: bytes, *headers: str, number: int = 0, content_type: str = "text/html") -> bytes:
    """Return a record of an HTTP response."""
    lines = "\r\n".join(["HTTP/1.1 200 OK", *([f"Content-Type: {content_type}"] if content_type else []), *headers])
    return record("response", HTTP, f"{lines}\r\n\r\n".encode() + body, number)


def chunked(body: bytes, size: int = 20, extension: bytes = b";name=value") -> bytes:
    """Return a body in chunks (RFC 9112, section 7.1)."""
    parts = (body[start : start + size] for start in range(0, len(body), size))
    return b"".join(b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts) + b"0\r\n\r\n"
