"""The errors that end a command, each with its exit code.

GptctlError            1   a bug in gptctl, or anything not named below
  UsageError           2   a flag, a config key or a path that does not exist
  DataError            3   input that cannot be read as what it should be, or that contains no record
  MachineError         4   a lack of disk, memory, a package or a GPU, a dead worker, a path that can't be written
  ConflictError        5   the output folder is in use, or was made with other settings or inputs
  DivergedError        6   a loss or gradient of training that is not a finite number
  GateError            7   a metric below the bar set with --fail-under
  PipeClosedError    141   the reader of standard output has closed it; nothing is printed
  StoppedError       128+N a signal asked the command to stop; the state is saved
"""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gptctl.core.redact import redact

__all__ = [
    "ConflictError",
    "DataError",
    "DivergedError",
    "GateError",
    "GptctlError",
    "MachineError",
    "PipeClosedError",
    "StoppedError",
    "UsageError",
]

# The error messages of pyarrow for failed requests to object storage.
STORAGE_ERROR = re.compile(r"AWS Error ([A-Z_]+)(?: \(HTTP status (\d+)\))?[^:]*: ?(.*)", re.S)
STORAGE_PLACE = re.compile(r"key '(.*)' in bucket '(.*?)'")
DENIED = ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "EXPIRED_TOKEN", "INVALID_TOKEN_ID")

# The error messages of torch for a lack of memory: of a GPU, its libraries, an Apple GPU, a CPU.
OUT_OF_MEMORY = re.compile(r"out of memory|ALLOC_FAILED|can't allocate memory|not enough memory", re.I)
# Those of the system for a library that cannot be loaded, or a thread that cannot be started, for lack of memory.
NO_ADDRESS_SPACE = re.compile(
    r"failed to map segment|cannot allocate memory|can't start new thread|failed to launch worker thread", re.I
)
# What an OSError names if it is about standard output.
STANDARD_OUTPUT = "standard output"
REQUESTED_BYTES = re.compile(r"[Tt](ried to allocate [\d.]+ \w+)")


class GptctlError(Exception):
    """An error with a message (what is wrong, and where) and a hint (what to do next). Passwords in URIs are hidden."""

    exit_code = 1
    summary: Any = None  # the command's result, if it had one before this error ended it (GateError)

    def __init__(self, message: str, hint: str | None = None) -> None:
        message = redact(message)
        super().__init__(message)
        self.message = message
        self.hint = redact(hint) if hint else hint

    def __reduce__(self) -> tuple[type[GptctlError], tuple[str, str | None]]:
        """Keep the hint when a worker sends the error to the parent process."""
        return type(self), (self.message, self.hint)


class UsageError(GptctlError):
    """The command line or the config names something that does not exist."""

    exit_code = 2


class DataError(GptctlError):
    """The input is damaged, of the wrong kind, or empty."""

    exit_code = 3


class MachineError(GptctlError):
    """The machine cannot do what was asked: disk, memory, packages, devices, worker processes."""

    exit_code = 4


class ConflictError(GptctlError):
    """The output folder belongs to another run."""

    exit_code = 5


class DivergedError(GptctlError):
    """Training produced a loss or gradient that is not a finite number."""

    exit_code = 6


class GateError(GptctlError):
    """A metric is below the bar that the user set."""

    exit_code = 7


class PipeClosedError(GptctlError):
    """The reader of standard output has closed it."""

    exit_code = 141


class StoppedError(GptctlError):
    """A signal stopped the command after its state was saved."""

    def __init__(self, message: str, hint: str | None = None, signal_number: int = 15) -> None:
        super().__init__(message, hint)
        self.exit_code = 128 + signal_number


def from_exception(error: Exception) -> GptctlError:
    """Return any exception as a GptctlError. An unexpected one becomes an internal error (exit code 1)."""
    if isinstance(error, GptctlError):
        return error
    if is_out_of_memory(error):
        return from_out_of_memory(error, "use fewer workers (--workers 1) or smaller batches")
    if lacks_address_space(error):
        what = " while a library was loaded" if isinstance(error, ImportError) or "shared object" in str(error) else ""
        return MachineError(
            f"out of memory{what}", "raise the limit (ulimit -v, or that of the container), or use --workers 1"
        )
    if isinstance(error, OSError):
        return from_os_error(error)
    if isinstance(error, ImportError) and (absent := without_library(error)):
        return absent
    return GptctlError(
        f"internal error: {type(error).__name__}: {error}",
        "run again with --debug and report the traceback; log.txt in the output folder has it too",
    )


def without_library(error: ImportError) -> GptctlError | None:
    """Return the MachineError for an optional library that is missing, broken or too old; None for other modules."""
    from gptctl.core.extras import EXTRAS, missing

    library = (error.name or "").split(".")[0]
    return missing(library, error) if library in EXTRAS else None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception is Python's or torch's for a lack of memory, of a CPU or a GPU."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(str(error)) is not None
    )


def lacks_address_space(error: BaseException | None) -> bool:
    """Return whether an exception, or one that it was raised from, tells of a library or thread that did not fit."""
    while error is not None:
        if getattr(error, "errno", None) == errno.ENOMEM or NO_ADDRESS_SPACE.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def from_out_of_memory(error: BaseException, hint: str) -> MachineError:
    """Return the MachineError for a lack of memory, with the size of the request if it is known."""
    requested = REQUESTED_BYTES.search(str(error))
    return MachineError(f"out of memory: t{requested[1]}" if requested else "out of memory", hint)


@contextmanager
def memory_hint(hint: str) -> Iterator[None]:
    """Raise MachineError (4) with this hint where the block runs out of memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise from_out_of_memory(error, hint) from error


def from_os_error(error: OSError, path: Path | str | None = None) -> GptctlError:
    """Return the GptctlError, with a hint, for an error of the operating system.

    `path` is the path that was being written. Without it the error's own file name is used.
    """
    if error.filename == STANDARD_OUTPUT:
        what = f"{STANDARD_OUTPUT} cannot be written: {error.strerror}"
        return MachineError(what, "redirect it to a file on a disk with space, or to a pipe")
    where = str(path or error.filename or "the output")
    if answer := STORAGE_ERROR.search(str(error)):
        if path is None and (place := STORAGE_PLACE.search(str(error))):
            where = f"s3://{place[2]}/{place[1]}"
        return from_storage_error(answer[1], answer[2], answer[3], where)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return MachineError(
            f"disk full writing {where} ({_free_bytes(where)} B free)", "free space, then run the same command again"
        )
    if error.errno == errno.EROFS:
        return MachineError(f"cannot write {where}: read-only file system", "choose another folder with -o")
    if error.errno in (errno.EACCES, errno.EPERM):
        return MachineError(f"permission denied: {where}", "check the owner and mode of that path, or choose another")
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return MachineError(f"cannot write {where}: it is a file, not a folder", "choose another folder with -o")
    if error.errno == errno.EMFILE:
        return MachineError("too many open files", "raise the limit with: ulimit -n 4096")
    if error.errno == errno.ENOENT:
        return UsageError(f"no such file or folder: {where}", "check the path")
    return MachineError(f"{error.strerror or error}: {where}", "see log.txt in the output folder")


def from_storage_error(kind: str, status: str | None, reason: str, where: str) -> GptctlError:
    """Return the GptctlError, with a hint, for a failed or unanswered request to object storage."""
    reason = re.split(r"\(Request ID|; Details:", redact(reason))[0].strip()[:160].rstrip(".")
    if kind == "NO_SUCH_BUCKET":
        return UsageError(f"no such bucket: {where}", "check the bucket's name, and endpoint_override= and region=")
    if kind in ("NO_SUCH_KEY", "RESOURCE_NOT_FOUND"):
        return UsageError(f"no such file or folder: {where}", "check the path")
    if kind in DENIED or status == "403":
        return MachineError(
            f"access denied ({kind}): {where}",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; listing, reading and writing need rights",
        )
    if kind in ("NETWORK_CONNECTION", "REQUEST_TIMEOUT", "SLOW_DOWN", "SERVICE_UNAVAILABLE", "INTERNAL_FAILURE"):
        return MachineError(
            f"object storage does not answer ({kind}: {reason}): {where}",
            "check the network and endpoint_override=; then run the same command again to continue",
        )
    return MachineError(
        f"object storage refused a request ({kind}{f', {status}' if status else ''}: {reason}): {where}",
        "check region= and endpoint_override= in the URI",
    )


def _free_bytes(where: str) -> int:
    folder = Path(where)
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0
