"""Find the files that an INPUT argument names, locally or in object storage. Only their paths decide their order."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import pyarrow.fs as pafs

from gptctl.core.errors import DataError, UsageError, from_os_error
from gptctl.io.files import plain_path
from gptctl.io.formats import InputFile
from gptctl.io.object_storage.address import Address, file_info, is_uri, list_files


def find_files(argument: str, name: str = "") -> list[InputFile]:
    """Return the files that a path, glob, folder or URI names, sorted by path.

    `name` is what the files are called after, if the argument is one of several: the file itself, and before a slash
    all files of a folder. What a glob finds is called by the name of each file.

    Raises UsageError (2) if nothing has that name, DataError (3) for a folder without files and for a file whose name
    is not UTF-8.
    """
    argument = plain_path(argument)
    if is_uri(argument):
        return find_remote(argument, name)
    return find_local(argument, name)


def find_local(argument: str, name: str) -> list[InputFile]:
    """Return the local files that a path, glob or folder names. Raises the same errors as `find_files`."""
    path = Path(argument)
    try:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.is_file() and not hidden(p.relative_to(path).parts))
            if not found:
                raise empty(argument)
            return [local_file(str(p), below(name, p.relative_to(path).as_posix())) for p in found]
        if path.exists():
            return [local_file(argument, name or path.name)]
    except OSError as error:
        raise from_os_error(error, path) from error
    # Path.glob does not accept absolute patterns.
    matches = sorted(glob.glob(argument, recursive=True)) if glob.has_magic(argument) else []  # noqa: PTH207
    files = [local_file(match, Path(match).name) for match in matches if Path(match).is_file()]
    if not files:
        raise UsageError(f"no such file or folder: {argument}", "check the path; '-' reads standard input")
    return files


def local_file(path: str, name: str) -> InputFile:
    """Return a local file with its size. Raises DataError (3) if its name is not UTF-8, since ids are made of it."""
    try:
        path.encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise DataError(f"a file's name is not UTF-8: {shown}", "rename it") from error
    return InputFile(path, name, Path(path).stat().st_size)


def below(name: str, path: str) -> str:
    """Return the name of a file at a path below a folder that is called `name`, or not called at all."""
    return f"{name}/{path}" if name else path


def find_remote(uri: str, name: str) -> list[InputFile]:
    """Return the files at or below a URI, or those that match it as a glob. Raises the same errors as `find_files`."""
    address = Address.parse(uri)
    info = file_info(uri)
    if info.type == pafs.FileType.File:
        return [InputFile(uri, name or info.base_name, info.size)]
    if info.type == pafs.FileType.Directory:
        start = len(address.path) + 1
        # Sorted by the parts of the path, as local paths are: "a/x" comes before "a-b/x".
        everything = sorted(list_files(uri), key=lambda f: f.path.split("/"))
        found = [f for f in everything if f.is_file and not hidden(f.path[start:].split("/"))]
        if not found:
            raise empty(uri)
        return [InputFile(str(address.at(f.path)), below(name, f.path[start:]), f.size) for f in found]
    matches = match(address) if glob.has_magic(address.path) else []
    if not matches:
        bucket = address.at(address.path.split("/")[0])
        if file_info(str(bucket)).type == pafs.FileType.NotFound:
            raise UsageError(
                f"no such bucket: {bucket}", "check its name, and endpoint_override= and region= in the URI"
            )
        raise UsageError(f"no such file or folder: {uri}", "check the path behind the bucket")
    return [InputFile(str(address.at(f.path)), f.base_name, f.size) for f in matches]


def match(address: Address) -> list[pafs.FileInfo]:
    """Return the files whose paths match a glob, sorted by path. Only its part before the first wildcard is listed."""
    parts = address.path.split("/")
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    if not fixed:
        raise UsageError(f"{address} has a wildcard in the bucket's name", "name the bucket")
    pattern = parts[fixed:]
    listed = list_files(str(address.at("/".join(parts[:fixed]))), recursive=len(pattern) > 1 or "**" in pattern)
    files = [f for f in listed if f.is_file and matches(f.path.split("/")[fixed:], pattern)]
    return sorted(files, key=lambda f: f.path)


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


def empty(argument: str) -> DataError:
    """Return the error for a folder without files."""
    return DataError(f"{argument} holds no file", "name a folder with text, JSON lines, HTML, Parquet or Arrow files")
