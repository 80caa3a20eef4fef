"""The steps between the last shard and the manifest: quarantine, checks, equal columns, flushing and cleaning up."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

import orjson

from gptctl.core import atomic
from gptctl.core.errors import DataError
from gptctl.core.summary import LACKING
from gptctl.io.dataset import shards
from gptctl.io.dataset.manifest import Shard
from gptctl.io.dataset.schema import conform, unify
from gptctl.io.dataset.shard_format import SUFFIXES, ShardFormat, read_schema, read_table
from gptctl.io.input.blocks import Tolerance, UnreadableRecord
from gptctl.io.input.usual_columns import name_text_column
from gptctl.pipeline.task_results import PipelineTotals

MAX_TYPES = 5  # of records without text that an error names
SHARD_PATTERNS = tuple(f"{place}/part-*{suffix}" for place in ("*", "shards/*") for suffix in SUFFIXES)


def remove_stale_shards(folder: Path, task_count: int) -> None:
    """Remove the shards of tasks that no longer exist: an interrupted run had read a longer stream."""
    for pattern in SHARD_PATTERNS:
        for path in sorted(folder.glob(pattern)):
            if int(path.stem.removeprefix("part-")) >= task_count:
                path.unlink()


def write_quarantine(folder: Path, unreadable: list[UnreadableRecord]) -> None:
    """Write the unreadable records to quarantine.jsonl, in the order of the input."""
    (folder / "quarantine.jsonl").unlink(missing_ok=True)
    if unreadable:
        lines = b"".join(orjson.dumps(record.to_json()) + b"\n" for record in unreadable)
        atomic.write_bytes(folder / "quarantine.jsonl", lines)


def check_readable(totals: PipelineTotals, tolerance: Tolerance, details: str, warn: Callable[[str], None]) -> None:
    """Warn of unreadable records, and of documents that were read in another encoding than UTF-8.

    `details` says where the user finds the unreadable records. Raises DataError (3) if there are no records, or if more
    are unreadable than the tolerance allows.
    """
    counts = totals.counts
    by_reason = Counter({reason: number for reason, number in counts.quarantined.items() if reason not in LACKING})
    unreadable = by_reason.total()
    if counts.documents_in == 0:
        found = f"; {describe_skipped(counts.skipped)}" if counts.skipped else ""
        raise DataError(
            f"no records found in the input{found}", "check that the files are not empty and have a known format"
        )
    if unreadable:
        reason, _ = by_reason.most_common(1)[0]
        first = next((record for record in totals.unreadable if record.reason == reason), None)
        where = f", first at {first.source} {first.position}" if first else ""
        where += f"; it has: {', '.join(first.columns)}" if first and first.columns else ""
        words = f"{unreadable:,} of {counts.documents_in:,} records are unreadable (most often: {reason}{where})"
        if not tolerance.accepts(unreadable, counts.documents_in):
            columns = first.columns if first else ()
            raise DataError(words, hint_for(reason, unreadable / counts.documents_in, details, columns))
        warn(f"{words}: they are left out; see {details}")
    warn_of_encodings(counts.encodings, warn)


def describe_skipped(skipped: Counter[str]) -> str:
    """Return a sentence on the records that are no documents, by their type."""
    named = ", ".join(f"{kind} ({n:,})" for kind, n in skipped.most_common(MAX_TYPES))
    others = f" and {len(skipped) - MAX_TYPES:,} other types" if len(skipped) > MAX_TYPES else ""
    return f"{skipped.total():,} records hold no text and are not read: {named}{others}"


def warn_of_encodings(encodings: Counter[str], warn: Callable[[str], None]) -> None:
    """Warn of documents that were read in another encoding than UTF-8."""
    if encodings:
        named = ", ".join(f"{name} ({n:,})" for name, n in encodings.most_common())
        warn(f"text that is not UTF-8 was read as {named}: see the column 'encoding'; --set encoding=NAME sets it")


def hint_for(reason: str, share: float, details: str, columns: Collection[str]) -> str:
    """Return what to do about unreadable records, most of which have this reason. The first has these columns."""
    if reason.startswith("no column"):
        return name_text_column(columns)
    accept = f"; to accept them: --set max_bad={min(1.0, round(share + 0.001, 3))}"
    return f"see {details}{accept if share < 1 else ''}"


def unify_shards(folder: Path, written: list[Shard], storage: ShardFormat) -> list[Shard]:
    """Make the columns of all shards the same, as JSON rows need not be alike. Shards that lack some are rewritten."""
    schemas = [read_schema(folder / shard.path) for shard in written]
    if all(schema.equals(schemas[0], check_metadata=True) for schema in schemas[1:]):
        return written
    target = unify(schemas)
    unified = []
    for shard, schema in zip(written, schemas, strict=True):
        if schema.equals(target, check_metadata=True):
            unified.append(shard)
        else:
            table = read_table((folder / shard.path).read_bytes(), shard.path)
            unified.append(shards.write_shard(folder, shard.path, conform(table, target), storage))
    return unified


def flush_names(folder: Path) -> None:
    """Flush the names of all shards and side tables to disk, before the manifest is written."""
    for parent in {path.parent for pattern in SHARD_PATTERNS for path in folder.glob(pattern)}:
        atomic.sync_folder(parent)


def remove_work_folder(folder: Path) -> None:
    """Remove the records of the tasks, once the manifest lists their shards."""
    shutil.rmtree(folder / "work", ignore_errors=True)
