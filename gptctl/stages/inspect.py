"""Show the content of a dataset, a run, a model or an Arrow file; decode tokens; print rows as JSON lines."""

from __future__ import annotations

import json
from typing import Any, Literal

import pyarrow.fs as pafs

from gptctl.core.config import StageConfig, argument, flag, flatten
from gptctl.core.context import Context
from gptctl.core.errors import UsageError
from gptctl.core.formatting import format_number
from gptctl.core.run_record import finite
from gptctl.core.summary import Summary, Table
from gptctl.core.visible import visible
from gptctl.io.files import plain_path
from gptctl.io.object_storage.address import file_info
from gptctl.reporting.contents import Rows, read_content

EXAMPLES = (
    "gptctl inspect clean",
    "gptctl inspect tokens --limit 2",
    "gptctl inspect unique --limit 100 --format jsonl",
)
CELL_CHARACTERS = 60


class Inspect(StageConfig):
    """Show the content of a folder or file of gptctl.

    PATH is anything that a command wrote: a dataset, its rejects or quarantine.jsonl, a run, a model, a single file.
    The default is a table for people. --format jsonl prints each row as a JSON object on a line of standard output.
    Tokens are decoded. Every shard that is read is verified.
    """

    path: str = argument(..., "PATH", "Folder or file that a command wrote, or a model folder.")
    limit: int = flag(5, "Rows to show; 0 shows all.", panel="Output", ge=0)
    format: Literal["table", "jsonl"] = flag("table", "How rows are shown.", panel="Output")
    split: Literal["", "train", "val", "test"] = flag("", "Show only this split.", panel="Output")


def plan(config: Inspect, context: Context) -> Summary:
    """Return the same as run(), which changes nothing."""
    return run(config, context)


def run(config: Inspect, context: Context | None = None) -> Summary:
    """Read PATH, and show its facts and first rows."""
    context = context or Context()
    path = plain_path(config.path)
    if file_info(path).type == pafs.FileType.NotFound:
        if path == "-":
            raise UsageError("inspect reads no pipe", "write with -o OUT, and inspect OUT")
        raise UsageError(f"no such file or folder: {path}", "PATH is what a command wrote, or a file of it")
    facts, rows = read_content(path, config.limit or None, config.split)
    if config.format == "jsonl":
        for row in rows:
            context.write(json.dumps(finite(row), ensure_ascii=False, default=str) + "\n")
        return Summary("inspect", outputs=(config.path,), metrics=facts)
    about = Table(path, ("", "value"), tuple((name, shown(value)) for name, value in flatten(facts).items()))
    tables = (about, *([rows_table(rows)] if rows else []))
    return Summary("inspect", outputs=(config.path,), metrics=facts, tables=tables)


def rows_table(rows: Rows) -> Table:
    """Return rows as a table with long values cut."""
    columns = tuple(rows[0])
    return Table("rows", columns, tuple(tuple(shown(row.get(column)) for column in columns) for row in rows))


def shown(value: Any) -> str:
    """Return a value as the text of a cell."""
    text = visible(format_number(value))
    return text if len(text) <= CELL_CHARACTERS else text[: CELL_CHARACTERS - 1] + "…"
