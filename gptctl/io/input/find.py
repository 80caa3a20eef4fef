"""Find the files that an INPUT argument names, locally or in object storage. Only their paths decide their order."""

from __future__ import annotations

import glob
import os
import stat
from pathlib import Path

import pyarrow.fs as pafs

from gptctl.core.errors import DataError, UsageError, from_os_error
from gptctl.io.files import plain_path
from gptctl.io.formats import InputFile
from gptctl.io.hub import data_files
from gptctl.io.hub.uri import HubUri, is_hub
from gptctl.io.input.glob_match import begins_with, hidden, matches
from gptctl.io.object_storage.address import Address, file_info, is_uri, list_files

NOT_REGULAR = "not a regular file"


def find_files(argument: str, name: str = "") -> list[InputFile]:
    """Return the files that a path, glob, folder or URI names, sorted by path.

    `name` is what the files are called after, if the argument is one of several: the file itself, and before a slash
    all files of a folder. What a glob finds is called by its path below the folder before the first wildcard.

    Raises UsageError (2) if nothing has that name, DataError (3) for a folder without files and for a file whose name
    is not UTF-8.
    """
    argument = plain_path(argument)
    if is_hub(argument):
        return data_files.find_files(HubUri.parse(argument), name)
    if is_uri(argument):
        return find_remote(argument, name)
    return find_local(argument, name)


def find_local(argument: str, name: str) -> list[InputFile]:
    """Return the local files that a path, glob or folder names. Raises the same errors as `find_files`."""
    path = Path(argument)
    try:
        if path.is_dir():
            found = [(file, below(name, file.relative_to(path).as_posix())) for file in files_below(path)]
            if not found:
                raise empty(argument)
            return [local_file(str(file), named) for file, named in found]
        if path.exists():
            file = local_file(argument, name or path.name)
            if file.problem:
                raise UsageError(
                    f"{argument} is {file.problem}", "standard input is read as '-': COMMAND | gptctl ... -"
                )
            return [file]
        start = fixed_part(argument)
        files = [local_file(str(file), file.relative_to(start).as_posix()) for file in expand(argument, start)]
    except OSError as error:
        raise from_os_error(error) from error
    if not files and argument == "-":
        raise UsageError("standard input cannot be read here", "save standard input to a file first, and name the file")
    if not files:
        raise UsageError(f"no such file or folder: {argument}", "check the path; '-' reads standard input")
    return files


def files_below(*starts: Path) -> list[Path]:
    """Return the files below folders, sorted by path, without hidden ones. What cannot be read is among them.

    Links to folders are followed after all folders that are none. Each folder is read once, and none that a start lies
    in. Raises OSError for a folder that may not be read.
    """
    found: list[Path] = []
    seen = {identity(above) for start in starts for above in start.resolve().parents}
    folders = [start for start in starts if not start.is_symlink()]
    links = sorted((start for start in starts if start.is_symlink()), reverse=True)
    while folders or links:
        current = folders.pop() if folders else links.pop()
        if identity(current) in seen:
            continue
        seen.add(identity(current))
        linked: list[Path] = []
        with os.scandir(current) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    (linked if entry.is_symlink() else folders).append(current / entry.name)
                else:
                    found.append(current / entry.name)
        links = sorted(linked + links, reverse=True)
    return sorted(found)


def identity(folder: Path) -> tuple[int, int]:
    """Return what tells a folder from all others, whatever path leads to it."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def fixed_part(pattern: str) -> Path:
    """Return the folder of a glob before its first wildcard."""
    parts = Path(pattern).parts
    return Path(*parts[: next((i for i, part in enumerate(parts) if glob.has_magic(part)), 0)])


def expand(pattern: str, start: Path) -> list[Path]:
    """Return the files that a glob matches, and those in the folders that it matches, sorted by path.

    `start` is the folder before the first wildcard.
    """
    if not glob.has_magic(pattern):
        return []
    parts = Path(pattern).parts[len(start.parts) :]
    if "**" in parts:  # glob.glob would follow links to folders round and round
        return (
            [file for file in files_below(start) if begins_with(file.relative_to(start).parts, parts)]
            if start.is_dir()
            else []
        )
    matched = [Path(name) for name in glob.glob(pattern)]  # noqa: PTH207 (Path.glob refuses absolute patterns)
    folders = [path for path in matched if path.is_dir()]
    return sorted({*files_below(*folders), *(path for path in matched if not path.is_dir())})


def local_file(path: str, name: str) -> InputFile:
    """Return a local file with its size, or with what prevents reading it.

    Raises DataError (3) if its name is not UTF-8, since ids are made of it.
    """
    try:
        path.encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise DataError(f"a file's name is not UTF-8: {shown}", "rename it") from error
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        return InputFile(path, name, 0, "a link to a file that does not exist")
    return InputFile(path, name, found.st_size, "" if stat.S_ISREG(found.st_mode) else NOT_REGULAR)


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
        return [remote_file(address, f, below(name, f.path[start:])) for f in found]
    matches = match(address) if glob.has_magic(address.path) else []
    if not matches:
        bucket = address.at(address.path.split("/")[0])
        if file_info(str(bucket)).type == pafs.FileType.NotFound:
            raise UsageError(
                f"no such bucket: {bucket}", "check its name, and endpoint_override= and region= in the URI"
            )
        raise UsageError(f"no such file or folder: {uri}", "check the path behind the bucket")
    start = len(fixed_prefix(address))
    return [remote_file(address, f, f.path[start:]) for f in matches]


def remote_file(address: Address, info: pafs.FileInfo, name: str) -> InputFile:
    """Return an object with its size. pyarrow cannot open all keys that object stores allow."""
    odd = "//" in info.path or info.path.startswith("/") or any(part in (".", "..") for part in info.path.split("/"))
    problem = "a key with an empty part, '.' or '..', which cannot be opened: copy the object to another key"
    return InputFile(str(address.at(info.path)), name, info.size, problem if odd else "")


def fixed_prefix(address: Address) -> str:
    """Return the path of a glob up to the slash before its first wildcard."""
    parts = address.path.split("/")
    return "/".join(parts[: next(i for i, part in enumerate(parts) if glob.has_magic(part))]) + "/"


def match(address: Address) -> list[pafs.FileInfo]:
    """Return the files that match a glob, and those in folders that match it, sorted by path.

    Only its part before the first wildcard is listed.
    """
    parts = address.path.split("/")
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    if not fixed:
        raise UsageError(f"{address} has a wildcard in the bucket's name", "name the bucket")
    pattern = parts[fixed:]
    listed = list_files(str(address.at("/".join(parts[:fixed]))), recursive=len(pattern) > 1 or "**" in pattern)
    files = [f for f in listed if f.is_file and begins_with(f.path.split("/")[fixed:], pattern)]
    if len(pattern) == 1:
        folders = [f for f in listed if not f.is_file and matches(f.path.split("/")[fixed:], pattern)]
        below_them = [f for folder in folders for f in list_files(str(address.at(folder.path)))]
        files += [f for f in below_them if f.is_file and not hidden(f.path.split("/")[fixed + 1 :])]
    return sorted({f.path: f for f in files}.values(), key=lambda f: f.path.split("/"))


def empty(argument: str) -> DataError:
    """Return the error for a folder without files."""
    return DataError(f"{argument} holds no file", "name a folder with text, JSON lines, HTML, Parquet or Arrow files")
