"""What a dry run reads: enough of the input and of OUT to refuse what the run would refuse. Nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from gptctl.core.config import ReadingOptions, Values
from gptctl.core.context import Context
from gptctl.core.redact import redacted
from gptctl.core.run_folder import check_free, has_nothing_of_use
from gptctl.core.run_record import check_same_plugins, check_same_run, read_record, stage_name
from gptctl.io.files import plain_path
from gptctl.io.input.blocks import ReadResult, ShardTask, Tolerance
from gptctl.io.input.inputs import Inputs
from gptctl.io.input.read_task import read_task
from gptctl.io.object_storage.address import is_uri
from gptctl.pipeline import finalize
from gptctl.pipeline.dataset_output import refuse_nested, refuse_rejects, warn_of_inputs
from gptctl.pipeline.task_results import PipelineTotals

READ_BYTES = 64 * 2**20  # of larger inputs, shard tasks of about this size are read, evenly spread


def read_spread(inputs: Inputs, limit: int = 0) -> Iterator[tuple[ShardTask, ReadResult]]:
    """Read all shard tasks of an input, or some of them if it is large. A stream cannot be read before the run."""
    if inputs.is_stream:
        return
    step = 1 if limit else max(1, (inputs.total_bytes() or 0) // READ_BYTES)
    for task in inputs.tasks(limit):
        if task.index % step == 0:
            yield task, read_task(task, inputs.options)


def read_checked(inputs: Inputs, config: ReadingOptions, context: Context) -> Iterator[pa.Table]:
    """Yield the documents that `read_spread` reads. At the end, check the records as the run does.

    Raises DataError (3) if there are no records, or too many that are unreadable.
    """
    if inputs.is_stream:
        return
    totals = PipelineTotals()
    for _, found in read_spread(inputs, config.limit):
        totals.add_read(found)
        yield found.documents
        context.stop.check("stopped")
    check_totals(totals, config, context)


def check_totals(totals: PipelineTotals, config: ReadingOptions, context: Context) -> None:
    """Raise DataError (3) as the run would at its end, for what was read of the input."""
    finalize.check_readable(totals, Tolerance.from_config(config), "the input", context.warn)


def check_output(
    out: str | None, config: ReadingOptions, context: Context, inputs: Inputs, others: dict[str, str] | None = None
) -> None:
    """Raise what `open_dataset` raises for OUT: UsageError (2) or ConflictError (5). Object storage is not looked at.

    `others` are the fingerprints of what the stage reads besides its inputs.
    """
    warn_of_inputs(config, context, inputs)
    if out is None or out == "-":
        refuse_rejects(config)
        return
    refuse_nested(out, config)
    folder = Path(plain_path(out))
    check_free(plain_path(out), stage_name(config))
    if is_uri(out) or not (old := read_record(folder)):
        return
    if not context.force and not has_nothing_of_use(folder, old):
        known: Values | None = inputs.fingerprints()
        fingerprints = None if known is None else known | (others or {})
        check_same_run(str(folder), old, redacted(config.settings()), fingerprints, {})
        check_same_plugins(str(folder), old)
