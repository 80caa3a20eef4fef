"""All requests to the Hugging Face hub, and its cache on this machine, through huggingface_hub.

HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_CACHE and HF_HUB_OFFLINE are obeyed. What is read is downloaded once, to the
cache that all programs share. A download that broke off is resumed, and failed requests are tried again. Of a pinned
URI everything that is in the cache is read without a request.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from gptctl.core.errors import DataError, GptctlError, MachineError, UsageError, from_os_error
from gptctl.io.hub.uri import HubUri

CARD = "README.md"
PAUSES = (0.5, 1.0, 2.0)  # in seconds, before a request is made again
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class HubFile:
    """A file of a repository. `blob` is git's hash of its content, or of the pointer to it, which has its SHA-256."""

    path: str
    size: int
    blob: str


@cache
def library() -> ModuleType:
    """Import huggingface_hub, and keep it from writing to the terminal and from describing this machine."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import huggingface_hub.constants
    import huggingface_hub.errors
    import huggingface_hub.utils

    utilities: Any = huggingface_hub.utils  # not all of it is typed
    utilities.logging.set_verbosity_error()
    utilities.disable_progress_bars()
    return huggingface_hub


def is_offline() -> bool:
    """Return whether HF_HUB_OFFLINE forbids all requests."""
    return bool(library().constants.HF_HUB_OFFLINE)


@lru_cache(maxsize=64)
def pin(place: HubUri) -> HubUri:
    """Return the URI at the commit that its revision names now, or with HF_HUB_OFFLINE at the one that was read last.

    A process asks once.

    Raises UsageError (2) if there is no such repository or revision, MachineError (4) if the hub refuses or does not
    answer.
    """
    hub = library()
    if place.is_pinned:
        return place
    arguments = {"repo_type": place.kind, "revision": place.revision}
    if not is_offline():
        ask(place, lambda: hub.HfApi().repo_info(place.repo, **arguments))
    # This remembers the commit and its files in the cache. Alone it would use an old commit if the hub is silent.
    folder = ask(place, lambda: hub.snapshot_download(place.repo, allow_patterns=[CARD], **arguments))
    return replace(place, revision=Path(folder).name)


@lru_cache(maxsize=64)
def files_of(repository: HubUri) -> dict[str, HubFile]:
    """Return the files of a pinned repository by path, sorted by the parts of their paths."""
    hub = library()
    arguments = {"repo_type": repository.kind, "revision": repository.revision}
    try:
        found = hub.get_cached_repo_tree(repository.repo, **arguments)
    except hub.errors.CachedRepoTreeNotFoundError:
        ask(repository, lambda: hub.snapshot_download(repository.repo, allow_patterns=[CARD], **arguments))
        found = ask(repository, lambda: hub.get_cached_repo_tree(repository.repo, **arguments))
    files = sorted((HubFile(file.path, file.size, file.blob_id) for file in found), key=lambda f: f.path.split("/"))
    return {file.path: file for file in files}


def file_at(place: HubUri) -> HubFile | None:
    """Return the file that a pinned URI names, or None."""
    return files_of(place.at("")).get(place.path)


def files_below(place: HubUri) -> list[HubFile]:
    """Return the files below the folder that a pinned URI names: all of the repository if it names no path."""
    start = f"{place.path}/" if place.path else ""
    return [file for file in files_of(place.at("")).values() if file.path.startswith(start)]


def fetch(place: HubUri) -> Path:
    """Download the file that a URI names, unless it is in the cache, and return its path there.

    Raises FileNotFoundError if the repository has no such file, MachineError (4) if it cannot be had.
    """
    hub, place = library(), pin(place)
    if found := cached(place):
        return found
    if file_at(place) is None:
        raise FileNotFoundError(2, "no such file", str(place))
    arguments = {"repo_type": place.kind, "revision": place.revision}
    return Path(ask(place, lambda: hub.hf_hub_download(place.repo, place.path, **arguments)))


def cached(place: HubUri) -> Path | None:
    """Return the path that a file has in the cache, or None. No server is asked."""
    found = library().try_to_load_from_cache(place.repo, place.path, repo_type=place.kind, revision=place.revision)
    return Path(found) if isinstance(found, str) else None


def card_values(card: HubUri) -> dict[str, Any]:
    """Return the values at the head of a repository's card. Raises DataError (3) if they are damaged."""
    try:
        return library().metadata_load(fetch(card)) or {}
    except GptctlError:
        raise
    except Exception as error:  # those of the YAML parser
        reason = str(error).splitlines()[0]
        raise DataError(f"the card {card} is damaged: {reason}", "name the file or the folder to read") from error


def ask(place: HubUri, request: Callable[[], Answer]) -> Answer:
    """Return what a function of huggingface_hub returns. It is called again, after a pause, if the hub fails to answer.

    Raises a GptctlError instead of the errors of huggingface_hub and of its connection.
    """
    for pause in (*PAUSES, None):
        try:
            return request()
        except GptctlError:
            raise
        except Exception as error:
            if pause is None or not is_passing(error):
                if (found := translated(error, place)) is None:
                    raise
                raise found from error
        time.sleep(pause)
    raise AssertionError


def is_passing(error: Exception) -> bool:
    """Return whether a request may succeed if it is made again: the hub did not answer, or had an error of its own."""
    errors = library().errors
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # why the file was looked for in the cache
    if isinstance(error, errors.HfHubHTTPError):
        return bool(error.response.status_code >= 500)
    return isinstance(error, errors.HTTPError) and not is_offline()


def translated(error: BaseException, place: HubUri) -> GptctlError | None:
    """Return the GptctlError for an error of huggingface_hub, or None for any other error."""
    errors = library().errors
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, errors.HfHubHTTPError):
        error = error.__cause__
    name, endpoint = f"{place.kind} {place.repo}", library().constants.ENDPOINT
    status = getattr(getattr(error, "response", None), "status_code", None)
    log_in = "log in with 'hf auth login', or set HF_TOKEN"
    if isinstance(error, errors.GatedRepoError):
        return MachineError(
            f"access denied: the {name} is gated", f"accept its terms at {web_page(place)}, then {log_in}"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return UsageError(f"the {name} has no revision '{place.revision}'", f"see the branches and tags at {endpoint}")
    if status == 401:
        return MachineError(
            f"access denied (401): the {name} does not exist or is private",
            f"check the name; if it is private, {log_in}",
        )
    if status == 403:
        return MachineError(f"access denied (403): the {name}", f"{log_in} with the right to read it")
    if status == 404:
        return UsageError(f"no such {name} at {endpoint}", f"check the name; if it is private, {log_in}")
    if isinstance(error, errors.HFValidationError):
        return UsageError(f"{place} names no {place.kind}: {str(error).splitlines()[0]}", "check the name")
    if status is not None:
        return MachineError(f"{endpoint} refused a request for the {name} ({status})", "try again later")
    cached = (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError, errors.RevisionResolutionError)
    if is_offline() and isinstance(error, (*cached, errors.CachedRepoTreeNotFoundError)):
        return MachineError(
            f"{place} is not in the cache of the hub, and HF_HUB_OFFLINE is set", "unset HF_HUB_OFFLINE to download it"
        )
    if isinstance(error, (*cached, errors.HTTPError, TimeoutError, ConnectionError)):
        return MachineError(
            f"{endpoint} does not answer: {place}",
            "check the network and HF_ENDPOINT, and run the command again; HF_HUB_OFFLINE=1 reads what is in the cache",
        )
    if isinstance(error, OSError) and not error.errno:
        return MachineError(f"{place} cannot be downloaded: {str(error).splitlines()[0]}", "run the command again")
    return from_os_error(error) if isinstance(error, OSError) else None


def web_page(place: HubUri) -> str:
    """Return the address of a repository's page."""
    return f"{library().constants.ENDPOINT}/{'datasets/' if place.kind == 'dataset' else ''}{place.repo}"
