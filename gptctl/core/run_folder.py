"""The output folder of a run, from its start to its manifest.

    OUT/.lock         the lock of the one process that may write here
    OUT/run.json      the record of the run: status, command, settings, input fingerprints, versions, result
    OUT/config.toml   the settings, to be used again with --config
    OUT/events.jsonl  one line per event, with its time
    OUT/log.txt       tracebacks
    OUT/manifest.json written last: if it exists, the output is complete

The same command, run again, finds its output up to date if there is a manifest, and resumes if there is only run.json.
Other settings or inputs are a ConflictError (5) that names them; --force starts afresh. They are no conflict with a run
that failed and left nothing of use: the next one starts afresh.
"""

from __future__ import annotations

import json
import shutil
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from gptctl.core import atomic, checked_json
from gptctl.core.config import StageConfig, Values, look_up, to_toml
from gptctl.core.context import Context
from gptctl.core.errors import ConflictError, DataError, GptctlError, StoppedError, UsageError, from_exception
from gptctl.core.redact import redact, redacted
from gptctl.core.run_lock import LOCK, is_locked, lock_folder
from gptctl.core.run_record import (
    MANIFEST,
    RUN_RECORD,
    Extendable,
    changed_names,
    changed_plugins,
    check_same_plugins,
    check_same_run,
    finite,
    is_of_data_or_settings,
    new_record,
    read_record,
    record_in_manifest,
    stage_name,
    utc_now,
)
from gptctl.core.summary import Counts, Summary
from gptctl.core.visible import visible
from gptctl.core.written_files import Entry, changed_files, changed_output, list_files, list_files_with_times

RECORDS = frozenset({RUN_RECORD, "config.toml", "events.jsonl", "log.txt", LOCK})
# What commands write beside them before they end.
UNFINISHED = frozenset({"shards", "work", "rejects", "clusters", "quarantine.jsonl", "tokenizer.json", "plan.json"})


class OutputManifest(Protocol):
    """A manifest, which declares an output complete."""

    @property
    def paths(self) -> Collection[str]:
        """Return the paths of the shards."""

    def with_files(self, files: Sequence[Entry]) -> OutputManifest:
        """Return the manifest with the entries of the other files."""

    def write(self, folder: Path) -> None:
        """Write manifest.json into a folder."""


class OutputStore(Protocol):
    """A place other than a local folder where an output is kept: object storage."""

    @property
    def name(self) -> str:
        """Return the name that people see."""

    def download_records(self, folder: Path) -> None:
        """Make the folder's records equal to the stored ones. Raises ConflictError (5) for files of others."""

    def begin(self, folder: Path, fresh: bool) -> None:
        """Remove the stored manifest, and everything else if the run is `fresh`; then store run.json."""

    def publish(self, folder: Path, manifest: OutputManifest) -> None:
        """Upload the folder, the manifest last."""

    def is_complete(self, folder: Path) -> bool:
        """Return whether everything that the folder's manifest lists is stored."""


class Run:
    """A locked output folder. `open_run` creates it."""

    def __init__(self, path: Path, stage: str, record: Values, store: OutputStore | None = None) -> None:
        self.path = path
        self.name = store.name if store else str(path)
        self.stage = stage
        self.record = record
        self.store = store
        self.up_to_date = (path / MANIFEST).exists()
        self.fingerprints: Callable[[], Values] | None = None
        self.lock = inode(path / LOCK)
        self.started = time.monotonic()

    def event(self, kind: str, **fields: Any) -> None:
        """Append a line to events.jsonl. Numbers that are not finite become null."""
        line = {"time": utc_now(), "elapsed": self.elapsed(), "event": kind} | redacted(finite(fields))
        atomic.append_line(self.path / "events.jsonl", json.dumps(line))

    def elapsed(self) -> float:
        """Return the seconds since this command opened the folder. Setting the system's clock does not change them."""
        return round(time.monotonic() - self.started, 3)

    def log(self, text: str) -> None:
        """Append text to log.txt."""
        atomic.append_line(self.path / "log.txt", f"{utc_now()} {visible(redact(text), lines=True)}")

    def previous_summary(self) -> Summary:
        """Return the result of the run that is already complete here."""
        summary = self.record.get("summary", {})
        counts = Counts.from_json(summary["counts"]) if "counts" in summary else Counts()
        return Summary(self.stage, "up to date", (self.name,), counts, summary.get("metrics", {}))

    def finish(self, summary: Summary, manifest: OutputManifest) -> Summary:
        """Record the summary, then write the manifest, which makes the output complete.

        The status becomes "done" only after the manifest was written, so that `gptctl doctor` can tell an output that
        lost its manifest from a run that was killed before.
        """
        self.check_folder()
        self.check_inputs()
        manifest = manifest.with_files(list_files(self.path, manifest.paths))
        files, status = list_files_with_times(self.path), "done" if self.store else "finishing"
        self.record |= {"status": status, "summary": finite(summary.to_json()), "files": files}
        self.save()
        if self.store:
            self.store.publish(self.path, manifest)
        else:
            manifest.write(self.path)
            self.record["status"] = "done"
            self.save()
        return summary

    def check_folder(self) -> None:
        """Raise ConflictError (5) if the folder was deleted or replaced, which takes its lock and finished files away.

        The same command then starts afresh.
        """
        if inode(self.path / LOCK) != self.lock:
            self.record["is_outdated"] = True
            raise ConflictError(
                f"{self.path} was deleted or replaced while it was written, so {self.name} is not finished",
                "run the same command again, and leave the folder alone until it ends",
            )

    def check_inputs(self) -> None:
        """Raise DataError (3) if an input or a plug-in has changed or vanished since the run began.

        The same command then starts afresh, since what is finished may be of either content.
        """
        changed, detail = changed_plugins(), ""
        if self.fingerprints is not None:
            try:
                changed += changed_names(self.record["inputs"], self.fingerprints())
            except StoppedError:
                raise
            except (GptctlError, OSError) as error:
                changed, detail = ["an input"], f": {error}"
        if changed:
            self.record["is_outdated"] = True
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            raise DataError(
                f"{changed[0]}{more} changed or vanished while it was read, so {self.name} is not finished{detail}",
                "run the same command again when nothing writes to its inputs",
            )

    def save(self) -> None:
        """Write run.json."""
        self.record["seconds"] = self.elapsed()
        checked_json.write(self.path / RUN_RECORD, redacted(self.record))


@contextmanager
def open_run(
    out: Path,
    config: StageConfig,
    context: Context,
    inputs: Values | Callable[[], Values] | None = None,
    extendable: Extendable | None = None,
    store: OutputStore | None = None,
) -> Iterator[Run]:
    """Lock OUT, decide whether the run starts, resumes or is up to date, and record how it ends.

    `inputs` are the fingerprints of what is read, by name, or None if they are not known yet (a stream). If they are a
    function, it is called again at the end, and a run whose inputs have changed does not finish. With a `store`, `out`
    is a local working folder, which is emptied once the store has everything.

    Raises ConflictError (5) if the folder is in use, has files of others, or was made with other settings or inputs;
    MachineError (4) if it cannot be written.
    """
    stage, known = stage_name(config), inputs() if callable(inputs) else inputs
    if store is None and str(out).split("/")[0].endswith(":"):
        raise UsageError(f"{stage} writes to a folder of this machine, not to a URI", "copy it there afterwards")
    name = store.name if store else str(out)
    lock = lock_folder(out, name)
    context.stop.output = name
    try:
        if store:
            store.download_records(out)
        old = earlier_run(out, config, context, name)
        if old:
            settings = redacted(config.settings())
            try:
                check_same_run(name, old, settings, known, extendable or {})
                check_same_plugins(name, old)
            except ConflictError:
                if not has_nothing_of_use(out, old):
                    raise
                clear_folder(out)
                old = {}
        if old:
            is_extended = any(look_up(old["settings"], key) != look_up(settings, key) for key in extendable or {})
            is_finished = not is_extended and (out / MANIFEST).exists()
            if is_finished:
                is_finished = store.is_complete(out) if store else is_whole(out, context)
            if not is_finished:
                (out / MANIFEST).unlink(missing_ok=True)
        atomic.sweep(out)
        run = Run(out, stage, old, store)
        if run.up_to_date:
            restore_records(run, config, context)
            yield run
        else:
            run.record = new_record(config, known, context, resumed=bool(old))
            run.fingerprints = inputs if callable(inputs) else None
            run.save()
            atomic.write_text(out / "config.toml", to_toml(redacted(config.recorded())))
            run.event("resume" if old else "start", stage=stage, argv=list(context.argv))
            yield from record_failure(run, fresh=not old)
        if store:
            clear_folder(out)
    finally:
        lock.release()


def is_whole(out: Path, context: Context) -> bool:
    """Return whether the files of a finished output are what was written, and say which are not."""
    changed = changed_output(out)
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        context.warn(f"made again, because {out / changed[0]}{more} changed or vanished since it was written")
    return not changed


def restore_records(run: Run, config: StageConfig, context: Context) -> None:
    """Write what is damaged of run.json and config.toml again, for an output that is complete otherwise, and say so."""
    if run.store:
        return
    changed = list(changed_files(run.path, run.record.get("files", ())))
    is_lost = not read_record(run.path)
    if "config.toml" in changed or not (run.path / "config.toml").exists():
        atomic.write_text(run.path / "config.toml", to_toml(redacted(config.recorded())))
    elif not changed and not is_lost:
        return
    for name in changed:
        if name != "config.toml":
            context.warn(f"{run.path / name} changed or vanished since it was written; --force makes everything again")
    if is_lost:
        context.warn(f"{run.path / RUN_RECORD} was damaged, and is written again as far as the manifest knows")
    run.record = new_record(config, run.record["inputs"], context, resumed=False) | run.record
    run.record["files"] = list_files_with_times(run.path)
    run.save()


def earlier_run(out: Path, config: StageConfig, context: Context, name: str) -> Values:
    """Return the record of the run to continue, or {} to start afresh.

    It starts afresh, and removes its files, with --force, if it wrote nothing, and if its inputs changed under way.
    """
    if context.force and has_damaged_record(out):
        clear_folder(out)
        return {}
    old = check_owner(out, stage := stage_name(config), name)
    is_other = bool(old) and old["stage"] != stage
    if old and (context.force or is_other or holds_only(out, RECORDS) or old.get("is_outdated")):
        clear_folder(out)
        return {}
    return old


def record_failure(run: Run, fresh: bool) -> Iterator[Run]:
    """Yield the run, and if it fails or is stopped, write so to run.json and log.txt."""
    try:
        if run.store:
            run.store.begin(run.path, fresh)
        yield run
    except BaseException as failure:
        error = cause_of(failure, run)
        status = "stopped" if isinstance(error, StoppedError) else "failed"
        known = from_exception(error) if isinstance(error, Exception) else None
        run.record |= {"status": status, "error": str(error), "exit_code": known.exit_code if known else None}
        run.record.pop("files", None)  # events.jsonl and log.txt get more lines
        if inode(run.path / LOCK) not in (run.lock, None):
            raise  # another process writes here now
        try:  # the disk may be full or gone: the first error is the one to report
            run.save()
            run.event(status, error=str(error))
            run.log("".join(traceback.format_exception(error)))
        except (GptctlError, OSError):
            pass
        if error is failure:
            raise
        raise error from failure


def cause_of(failure: BaseException, run: Run) -> BaseException:
    """Return the error of an input that has changed, if a command failed and one has, and the failure otherwise."""
    is_known = run.record.get("is_outdated") or isinstance(failure, StoppedError)
    if isinstance(failure, Exception) and not is_known:
        try:
            run.check_inputs()
        except DataError as error:
            return error
    return failure


def check_free(out: str | None, stage: str) -> None:
    """Raise ConflictError (5) if a local folder to write is in use, or has files of others. Nothing is written."""
    if out is None or out == "-" or "://" in out or not Path(out).is_dir():
        return
    if is_locked(Path(out)):
        raise ConflictError(f"{out} is in use by another process", "wait for it, or choose another folder with -o")
    check_owner(Path(out), stage, out)


def check_owner(out: Path, stage: str, name: str) -> Values:
    """Return the record of the earlier run in a folder. Raises ConflictError (5) if the folder has files of others."""
    record = read_record(out) or record_in_manifest(out)
    if record:
        if record["stage"] != stage and not has_nothing_of_use(out, record):
            raise ConflictError(f"{name} was made by 'gptctl {record['stage']}'", "choose another folder with -o")
        return record
    if has_damaged_record(out):
        raise ConflictError(
            f"{name}/{RUN_RECORD} is damaged, so it is not known what {name} is", "start afresh with --force"
        )
    foreign = [entry.name for entry in out.iterdir() if entry.name != LOCK and ".tmp-" not in entry.name]
    if foreign:
        raise ConflictError(
            f"{name} holds files that gptctl did not make ({foreign[0]})", "choose an empty or new folder with -o"
        )
    return {}


def has_damaged_record(out: Path) -> bool:
    """Return whether a folder that a command of gptctl has written has lost its run.json."""
    records = (RUN_RECORD, "config.toml", "events.jsonl")
    return all((out / file).exists() for file in records) and not (read_record(out) or record_in_manifest(out))


def holds_only(out: Path, names: frozenset[str]) -> bool:
    """Return whether a folder has no other entries than those of some names, and temporary files."""
    return all(entry.name in names or ".tmp-" in entry.name for entry in out.iterdir())


def has_nothing_of_use(out: Path, record: Values) -> bool:
    """Return whether an earlier run left nothing that a command with other settings or inputs could lose.

    That is a run that failed and finished neither an output nor a checkpoint. The shards of a run that failed for lack
    of disk or memory are of use to the same command; those of one that failed because of its data or settings are not.
    Files that no failed run leaves are the user's.
    """
    if holds_only(out, RECORDS):
        return True
    if record.get("status") != "failed" or any(out.rglob(MANIFEST)) or not holds_only(out, RECORDS | UNFINISHED):
        return False
    has_shards = (out / "work").exists() or (out / "shards").exists()
    return is_of_data_or_settings(record) or not has_shards


def inode(path: Path) -> int | None:
    """Return the number that the file system has for a file, or None if it does not exist."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def clear_folder(out: Path) -> None:
    """Empty a folder that gptctl made, except for the lock."""
    for entry in sorted(out.iterdir()):
        if entry.name == LOCK:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
