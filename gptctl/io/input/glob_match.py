"""Match the parts of a path with those of a glob: *, [...] and ** for any number of folders."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase


def begins_with(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether a path, or a folder that it lies in, matches a glob."""
    lengths = range(1, len(parts) + 1)
    return any(not hidden(parts[length:]) and matches(parts[:length], pattern) for length in lengths)


def matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether a path matches a glob, part by part. ** matches any number of parts that are not hidden."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        deeper = bool(parts) and not parts[0].startswith(".")
        return matches(parts, pattern[1:]) or (deeper and matches(parts[1:], pattern))
    if not parts or (parts[0].startswith(".") and not pattern[0].startswith(".")):
        return False
    return fnmatchcase(parts[0], pattern[0]) and matches(parts[1:], pattern[1:])


def hidden(parts: Sequence[str]) -> bool:
    """Return whether a file, or a folder between it and the argument, has a name that begins with a dot."""
    return any(part.startswith(".") for part in parts)
