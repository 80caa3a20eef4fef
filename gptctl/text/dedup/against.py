"""The documents of `--against`, which INPUT must not duplicate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from gptctl.core.context import Context
from gptctl.core.errors import UsageError
from gptctl.io.input.blocks import ReadOptions, ShardTask, Tolerance
from gptctl.io.input.inputs import Inputs
from gptctl.io.input.text_columns import describe_text_column
from gptctl.pipeline import preview
from gptctl.text.dedup.corpus import check_readable


def open_documents(paths: Sequence[str], options: ReadOptions) -> Inputs:
    """Open the documents. Their texts may be in a column of a usual name. Raises UsageError (2) for a pipe."""
    against = Inputs(paths, replace(options, usual_columns=True))
    if against.is_stream:
        raise UsageError("--against cannot be a pipe", "name a folder or files; the pipe is INPUT")
    return against


def fingerprints(against: Inputs | None) -> dict[str, str]:
    """Return the fingerprints of the documents."""
    return {f"against {name}": value for name, value in ((against.fingerprints() or {}) if against else {}).items()}


def against_tasks(against: Inputs, say: Callable[[str], None]) -> tuple[ShardTask, ...]:
    """Return the shard tasks, and say which column is read if it is another than that of INPUT.

    Raises DataError (3) if there is no such column, or nothing to read.
    """
    if column := describe_text_column(against, "--against"):
        say(column)
    tasks = tuple(replace(task, usual_columns=True) for task in against.tasks())
    if not tasks:
        check_readable(0, 0, Tolerance(), say)
    return tasks


def check_documents(against: Inputs, tolerance: Tolerance, context: Context) -> None:
    """Raise DataError (3) as the run would: for a missing column, too many unreadable records, or no document."""
    if column := describe_text_column(against, "--against"):
        context.info(column)
    documents = unreadable = 0
    for _, found in preview.read_spread(against):
        documents, unreadable = documents + len(found.documents), unreadable + len(found.unreadable)
    check_readable(documents, unreadable, tolerance, context.warn)
