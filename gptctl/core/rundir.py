"""The output folder of one run: its lock, what ran in it, and whether there is anything left to do.

    OUT/.lock         held by the one process that may write here (a kernel lock: gone with the process)
    OUT/run.json      status, argv, settings, what was read and its hashes, versions, host, times, the last summary
    OUT/config.toml   the settings, re-runnable with --config
    OUT/events.jsonl  one line per event, with the time
    OUT/log.txt       tracebacks
    OUT/manifest.json written last: its presence means that the output is complete

Running the same command again is "up to date" when the manifest stands, and a resume when only run.json does.
Other settings or inputs are a ConflictError (exit code 5) that names the keys; --force starts afresh.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict

from gptctl import __version__
from gptctl.core import atomic, plugins
from gptctl.core.config import StageConfig, Values, differing, plain, to_toml
from gptctl.core.context import Context
from gptctl.core.errors import ConflictError, GptctlError, StoppedError, UsageError, from_os_error
from gptctl.core.redact import redact, redacted
from gptctl.core.summary import Counts, StoredCounts, Summary

MANIFEST = "manifest.json"
RECORD = "run.json"
Extendable = Mapping[str, Callable[[Any], float]]
LIBRARIES = ("pyarrow", "numpy", "tokenizers", "torch", "datasketch", "nltk", "ftfy", "resiliparse")


class StoredSummary(BaseModel):
    """What of a summary is read again."""

    model_config = ConfigDict(strict=True)

    counts: StoredCounts | None = None
    metrics: Values = {}


class StoredRecord(BaseModel):
    """What of a run.json is read again; in a file that has something else there, nothing is believed."""

    model_config = ConfigDict(strict=True)

    stage: str
    pid: int
    started: str
    status: str = "unknown"
    settings: Values = {}
    inputs: dict[str, str] | None = None
    sources: dict[str, list[str]] = {}
    versions: dict[str, str] = {}
    argv: list[str] = []
    cwd: str | None = None
    summary: StoredSummary | None = None


class OutputManifest(Protocol):
    """What declares an output complete."""

    def write(self, folder: Path) -> None:
        """Write manifest.json."""


class OutputStore(Protocol):
    """Where an output is kept, if not in the folder where it is made: in object storage."""

    @property
    def name(self) -> str:
        """Its name for people."""

    def fetch(self, folder: Path) -> None:
        """Bring the folder's records in line with what is kept. Raises ConflictError (5) for what is not ours."""

    def begin(self, folder: Path, fresh: bool) -> None:
        """Take the manifest away, and, for a `fresh` run, everything else; note that a run is under way."""

    def publish(self, folder: Path, manifest: OutputManifest) -> None:
        """Bring the folder there, the manifest last."""


class Run:
    """One locked output folder. Made by `open_run`."""

    def __init__(self, path: Path, stage: str, record: Values, store: OutputStore | None = None) -> None:
        self.path = path
        self.name = store.name if store else str(path)
        self.stage = stage
        self.record = record
        self.store = store
        self.up_to_date = (path / MANIFEST).exists()
        self.started = time.monotonic()

    def event(self, kind: str, **fields: Any) -> None:
        """Append one line to events.jsonl; numbers that are not finite become null."""
        atomic.append_line(
            self.path / "events.jsonl", json.dumps({"time": now(), "event": kind} | redacted(finite(fields)))
        )

    def log(self, text: str) -> None:
        """Append to log.txt."""
        atomic.append_line(self.path / "log.txt", f"{now()} {redact(text)}")

    def previous_summary(self) -> Summary:
        """Return the result of the run that is already complete here."""
        summary = self.record.get("summary", {})
        counts = Counts.from_json(summary["counts"]) if "counts" in summary else Counts()
        return Summary(self.stage, "up to date", (self.name,), counts, summary.get("metrics", {}))

    def finish(self, summary: Summary, manifest: OutputManifest) -> Summary:
        """Record the summary, then write the manifest: from then on the output is complete.

        "done" stands in run.json only once there was a manifest, so that doctor knows a lost one from a killed run.
        """
        self.record |= {"status": "done" if self.store else "sealing", "summary": finite(summary.to_json())}
        self.save()
        if self.store:
            self.store.publish(self.path, manifest)
        else:
            manifest.write(self.path)
            self.record["status"] = "done"
            self.save()
        return summary

    def save(self) -> None:
        """Write run.json."""
        self.record["seconds"] = round(time.monotonic() - self.started, 3)
        atomic.write_json(self.path / RECORD, redacted(self.record))


@contextmanager
def open_run(
    out: Path,
    config: StageConfig,
    context: Context,
    inputs: Values | None = None,
    extendable: Extendable | None = None,
    intact: Callable[[Path], bool] = lambda _: True,
    store: OutputStore | None = None,
) -> Iterator[Run]:
    """Lock `out`, decide between fresh, resume and up to date, and record how the run ends.

    `inputs` are the fingerprints of what is read, by name; None means that they are not known yet (a stream).
    `extendable` keys may grow (more --steps) without being a conflict; each comes with how its value is measured. A
    complete output that is no longer `intact` is made again. With a `store`, `out` is where the output is made; it is
    kept there, and `out` is emptied when it has arrived.
    Raises ConflictError (5) if the folder is in use, is not ours, or was made with other settings or inputs;
    MachineError (4) if it cannot be written.
    """
    stage = type(config).__name__.lower()
    extendable = extendable or {}
    if store is None and str(out).split("/")[0].endswith(":"):
        raise UsageError(f"{stage} writes to a folder of this machine, not to a URI", "copy it there afterwards")
    name = store.name if store else str(out)
    lock = take_lock(out, name)
    try:
        if store:
            store.fetch(out)
        old = check_owner(out, stage, name)
        if old and (context.force or is_bare(out)):
            clear(out)
            old = {}
        settings = redacted(config.settings())
        if old:
            check_settings(name, old, settings, inputs, extendable)
            check_plugins(name, old)
            grown = any(old["settings"].get(name) != settings.get(name) for name in extendable)
            complete = (out / MANIFEST).exists()
            if grown or (complete and not intact(out)):
                (out / MANIFEST).unlink(missing_ok=True)
        atomic.sweep(out)
        run = Run(out, stage, old, store)
        if run.up_to_date:
            yield run
            if store:
                clear(out)
            return
        run.record = begin(stage, config, settings, inputs, context, resumed=bool(old))
        run.save()
        atomic.write_text(out / "config.toml", to_toml(redacted(plain(config))))
        run.event("resume" if old else "start", stage=stage, argv=list(context.argv))
        yield from until_done(run, fresh=not old)
        if store:
            clear(out)
    finally:
        lock.release()


def until_done(run: Run, fresh: bool) -> Iterator[Run]:
    """Hand out the run and record in run.json and log.txt how it ended."""
    try:
        if run.store:
            run.store.begin(run.path, fresh)
        yield run
    except BaseException as error:
        status = "stopped" if isinstance(error, StoppedError) else "failed"
        run.record |= {"status": status, "error": str(error)}
        try:  # the disk may be full or gone: the first error is the one to report
            run.save()
            run.event(status, error=str(error))
            run.log("".join(traceback.format_exception(error)))
        except (GptctlError, OSError):
            pass
        raise


def check_plugins(name: str, old: Values) -> None:
    """Raise ConflictError (5) if the output was made with other plug-ins, or with other versions of them."""
    before, now_used = old.get("plugins") or {}, plugins.record()
    changed = sorted(key for key in before.keys() | now_used.keys() if before.get(key) != now_used.get(key))
    if changed:
        raise ConflictError(
            f"{name} was made with other plug-ins: {', '.join(key.rsplit('.', 1)[-1] for key in changed)}",
            "use --force to start afresh, or another -o",
        )


def take_lock(out: Path, name: str) -> FileLock:
    """Lock the folder against every other process."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / ".lock", timeout=0)
        lock.acquire()
    except Timeout as error:
        holder = read_record(out)
        who = f"pid {holder.get('pid', '?')} on {holder.get('host', '?')} since {holder.get('started', '?')}"
        raise ConflictError(f"{name} is in use by {who}", "wait for it, or choose another folder with -o") from error
    except OSError as error:
        raise from_os_error(error, out) from error
    return lock


def check_owner(out: Path, stage: str, name: str) -> Values:
    """Return the record of the earlier run in this folder; refuse a folder that holds anything else."""
    record = read_record(out)
    if record:
        if record["stage"] != stage and not is_bare(out):
            raise ConflictError(f"{name} was made by 'gptctl {record['stage']}'", "choose another folder with -o")
        return record
    strangers = [entry.name for entry in out.iterdir() if entry.name != ".lock" and ".tmp-" not in entry.name]
    if strangers:
        raise ConflictError(
            f"{name} holds files that gptctl did not make ({strangers[0]})", "choose an empty or new folder with -o"
        )
    return {}


def is_bare(out: Path) -> bool:
    """Return whether an earlier run left only its records here: nothing that another command could lose."""
    records = {RECORD, "config.toml", "events.jsonl", "log.txt", ".lock"}
    return all(entry.name in records or ".tmp-" in entry.name for entry in out.iterdir())


def check_settings(name: str, old: Values, settings: Values, inputs: Values | None, extendable: Extendable) -> None:
    """Compare an earlier run with this one."""
    before = dict(old["settings"])
    for key, size in extendable.items():
        if key in before and size(settings[key]) > size(before[key]):
            before[key] = settings[key]
    changed = differing(before, json.loads(json.dumps(settings)))
    if changed:
        raise ConflictError(
            f"{name} was made with other settings: {', '.join(changed)}",
            "use the old settings, another -o, or --force to start afresh",
        )
    if inputs is not None and old["inputs"] is not None and list(old["inputs"].items()) != list(inputs.items()):
        names = sorted(key for key in old["inputs"].keys() | inputs.keys() if old["inputs"].get(key) != inputs.get(key))
        names = names or ["the order"]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise ConflictError(
            f"{name} was made from other input: {', '.join(names[:3])}{more} differs",
            "choose another -o, or --force to start afresh",
        )


def begin(
    stage: str, config: StageConfig, settings: Values, inputs: Values | None, context: Context, resumed: bool
) -> Values:
    """Describe a run that starts now."""
    return {
        "stage": stage,
        "status": "running",
        "resumed": resumed,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started": now(),
        "argv": list(context.argv),
        "cwd": str(Path.cwd()),
        "sources": config.sources(),
        "settings": settings,
        "config": plain(config),
        "inputs": inputs,
        "plugins": plugins.record(),
        "versions": versions(),
    }


def read_record(out: Path) -> Values:
    """Read run.json, or nothing where there is none of ours."""
    try:
        return parse_record((out / RECORD).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise from_os_error(error, out / RECORD) from error


def parse_record(data: bytes | None) -> Values:
    """Return what a run.json says, or nothing where it is absent, damaged or not ours."""
    try:
        record: Values = json.loads(data or b"")
        StoredRecord.model_validate(record)
    except (ValueError, RecursionError):
        return {}
    return {"status": "unknown", "settings": {}, "inputs": None} | record


def clear(out: Path) -> None:
    """Empty a folder that gptctl made, keeping the lock."""
    for entry in sorted(out.iterdir()):
        if entry.name == ".lock":
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def versions() -> dict[str, str]:
    """Return the versions of gptctl, Python and the libraries that shape results, without importing them."""
    found = {"gptctl": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def finite(value: Any) -> Any:
    """Replace numbers that strict JSON cannot hold by None."""
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
