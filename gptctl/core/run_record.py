"""run.json: the record of a run. It holds status, command, settings, input fingerprints, versions, times and result."""

from __future__ import annotations

import json
import os
import platform
import socket
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from gptctl import __version__
from gptctl.core import checked_json, plugins
from gptctl.core.config import StageConfig, Values, differing, flatten
from gptctl.core.context import Context
from gptctl.core.errors import ConflictError, DataError, UsageError, from_os_error
from gptctl.core.redact import redacted
from gptctl.core.regular_files import read_small
from gptctl.core.summary import StoredCounts

RUN_RECORD = "run.json"
MANIFEST = "manifest.json"
MAX_NAMED_INPUTS = 3
LIBRARIES = ("pyarrow", "numpy", "tokenizers", "torch", "datasketch", "nltk", "ftfy", "resiliparse")
# Dotted keys that may grow without being a conflict (more --steps), each with a function that returns a value's size.
Extendable = Mapping[str, Callable[[Any], float]]


class StoredSummary(BaseModel):
    """The part of a stored summary that is read again."""

    model_config = ConfigDict(strict=True)

    counts: StoredCounts | None = None
    metrics: Values = {}


class StoredRecord(BaseModel):
    """The part of run.json that is read again. A file that does not validate is not a record of gptctl."""

    model_config = ConfigDict(strict=True)

    stage: str
    pid: int
    started: str
    status: str = "unknown"
    settings: Values = {}
    inputs: dict[str, str] | None = None
    sources: dict[str, list[str]] = {}
    versions: dict[str, str] = {}
    files: list[dict[str, Any]] = []
    argv: list[str] = []
    cwd: str | None = None
    summary: StoredSummary | None = None


def new_record(config: StageConfig, inputs: Values | None, context: Context, resumed: bool) -> Values:
    """Return the record of a run that starts now."""
    return {
        "stage": stage_name(config),
        "status": "running",
        "resumed": resumed,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started": utc_now(),
        "argv": list(context.argv),
        "cwd": str(Path.cwd()),
        "sources": config.sources(),
        "settings": redacted(config.settings()),
        "config": config.recorded(),
        "inputs": inputs,
        "plugins": plugins.record(),
        "versions": library_versions(),
    }


def read_record(out: Path) -> Values:
    """Return a folder's run.json, or an empty dictionary if there is none of gptctl."""
    try:
        return parse_record(read_small(out / RUN_RECORD))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise from_os_error(error, out / RUN_RECORD) from error


def record_in_manifest(out: Path) -> Values:
    """Return what the manifest of a finished output knows of its run, or an empty dictionary without a manifest."""
    found = checked_json.read(out / MANIFEST)
    if found is None or not {"stage", "config", "inputs", "counts", "metrics"} <= found.keys():
        return {}
    summary = {"counts": found["counts"], "metrics": found["metrics"]}
    known = {"stage": found["stage"], "settings": found["config"], "inputs": found["inputs"], "summary": summary}
    return {"status": "done", "plugins": plugins.record()} | known


def parse_record(data: bytes | None) -> Values:
    """Return the content of a run.json, or an empty dictionary if it is missing, damaged or not of gptctl."""
    try:
        record: Values = checked_json.without_checksum(json.loads(data or b""))
        StoredRecord.model_validate(record)
    except (ValueError, RecursionError):
        return {}
    return {"status": "unknown", "settings": {}, "inputs": None} | record


def check_same_run(name: str, old: Values, settings: Values, inputs: Values | None, extendable: Extendable) -> None:
    """Raise ConflictError (5) if an earlier run had other settings or other inputs than this one."""
    before, now = flatten(old["settings"]), flatten(json.loads(json.dumps(settings)))
    for key, size in extendable.items():
        if key in before and key in now and size(now[key]) > size(before[key]):
            before[key] = now[key]
    changed = differing(before, now)
    if changed:
        raise ConflictError(
            f"{name} was made with other settings: {', '.join(changed)}",
            "use the old settings, another -o, or --force to start afresh",
        )
    if inputs is not None and old["inputs"] is not None and list(old["inputs"].items()) != list(inputs.items()):
        names = sorted(key for key in old["inputs"].keys() | inputs.keys() if old["inputs"].get(key) != inputs.get(key))
        names = names or ["the order"]
        more = f" and {len(names) - MAX_NAMED_INPUTS} more" if len(names) > MAX_NAMED_INPUTS else ""
        raise ConflictError(
            f"{name} was made from other input: {', '.join(names[:MAX_NAMED_INPUTS])}{more} differs",
            "choose another -o, or --force to start afresh",
        )


def changed_names(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the names of the fingerprints that differ."""
    return [name for name in {**before, **now} if before.get(name) != now.get(name)]


def changed_plugins() -> list[str]:
    """Return the plug-ins of a run whose files have changed since they were imported."""
    used = {name: one["hash"] for name, one in plugins.record().items()}
    return [f"plug-in {name.rsplit('.', 1)[-1]}" for name in changed_names(used, plugins.hashes_now())]


def check_same_plugins(name: str, old: Values) -> None:
    """Raise ConflictError (5) if the output was made with other plug-ins, or with other versions of them."""
    before, now_used = old.get("plugins") or {}, plugins.record()
    changed = sorted(key for key in before.keys() | now_used.keys() if before.get(key) != now_used.get(key))
    if not changed:
        return
    hint = "use --force to start afresh, or another -o"
    shown = ", ".join(key.rsplit(".", 1)[-1] for key in changed)
    if before.keys() == now_used.keys():
        plural = "plug-ins {} have" if len(changed) > 1 else "plug-in {} has"
        raise ConflictError(f"{plural.format(shown)} changed since {name} was made", hint)
    raise ConflictError(f"{name} was made with other plug-ins: {shown}", hint)


def is_of_data_or_settings(record: Values) -> bool:
    """Return whether a run failed because of its data or its settings, so that the same command would fail again."""
    return record.get("exit_code") in (UsageError.exit_code, DataError.exit_code)


def stage_name(config: StageConfig) -> str:
    """Return the name of the stage that a config belongs to."""
    return type(config).__name__.lower()


def library_versions() -> dict[str, str]:
    """Return the versions of gptctl, Python and the libraries that affect results, without importing them."""
    found = {"gptctl": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def utc_now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def finite(value: Any) -> Any:
    """Return a JSON value with None for the numbers that strict JSON cannot hold (NaN and infinity)."""
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
