"""Show the content of a dataset, a run, a model or an Arrow file; decode tokens; print rows as JSON lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.ipc as ipc

from gptctl.core.config import StageConfig, Values, argument, flag, flatten, plain
from gptctl.core.context import Context
from gptctl.core.errors import DataError, UsageError
from gptctl.core.formatting import format_bytes, format_number
from gptctl.core.run_record import MANIFEST, finite
from gptctl.core.summary import Summary, Table
from gptctl.io.dataset import manifest, shards
from gptctl.io.dataset.schema import fact, kind_of
from gptctl.io.files import UNREADABLE, damaged, open_seekable, plain_path, read_if_exists
from gptctl.io.object_storage.address import file_info, is_uri, join
from gptctl.text.tokenizer import Tokenizer

EXAMPLES = (
    "gptctl inspect clean",
    "gptctl inspect tokens --limit 2",
    "gptctl inspect unique --limit 100 --format jsonl",
)
CELL_CHARACTERS = 60
Rows = list[dict[str, Any]]


class Inspect(StageConfig):
    """Show the content of a folder or file of gptctl.

    The default is a table for people. --format jsonl prints each row as a JSON object on a line of standard output.
    Tokens are decoded. Every shard that is read is verified.
    """

    path: str = argument(..., "PATH", "Dataset folder, run folder, model folder, or Arrow file.")
    limit: int = flag(5, "Rows to show; 0 shows all.", panel="Output", ge=0)
    format: Literal["table", "jsonl"] = flag("table", "How rows are shown.", panel="Output")
    split: Literal["", "train", "val", "test"] = flag("", "Show only this split of tokens.", panel="Output")


def plan(config: Inspect, context: Context) -> Summary:
    """Return the same as run(), which changes nothing."""
    return run(config, context)


def run(config: Inspect, context: Context | None = None) -> Summary:
    """Read PATH, and show its facts and first rows."""
    context = context or Context()
    path = plain_path(config.path)
    if file_info(path).type == pafs.FileType.NotFound:
        raise UsageError(f"no such file or folder: {path}", "PATH is the output of a stage, or an Arrow file")
    facts, rows = read_path(path, config)
    if config.format == "jsonl":
        for row in rows:
            context.write(json.dumps(finite(row), ensure_ascii=False, default=str) + "\n")
        return Summary("inspect", outputs=(config.path,), metrics=facts)
    about = Table(path, ("", "value"), tuple((name, shown(value)) for name, value in flatten(facts).items()))
    tables = (about, *([rows_table(rows)] if rows else []))
    return Summary("inspect", outputs=(config.path,), metrics=facts, tables=tables)


def read_path(path: str, config: Inspect) -> tuple[Values, Rows]:
    """Return the facts about a path or URI, and its first rows."""
    limit = config.limit or None
    if file_info(path).is_file:
        return read_arrow_file(path, limit)
    if not is_uri(path) and (Path(path) / "config.json").exists():
        return read_model_facts(Path(path)), []
    if read_if_exists(join(path, MANIFEST)) is None:
        if files := [] if is_uri(path) else sorted(Path(path).glob("*.arrow")):
            return read_arrow_folder(files, limit)
        record = manifest.record_of(path)
        if not record:
            raise DataError(
                f"{path} is not an output of gptctl", "PATH is the output of a stage, a model folder, or an Arrow file"
            )
        facts = {"stage": record["stage"], "status": record["status"], "started": record["started"]}
        return facts | run_facts(Path(path)), []
    found = manifest.read(path)
    facts = {"kind": found.kind, "stage": found.stage, "shards": len(found.shards)}
    if found.kind == "run":
        return facts | {"metrics": found.metrics} | run_facts(Path(path)), []
    if found.kind == "export":
        return facts | {"metrics": found.metrics}, []
    facts |= {"rows": sum(s.rows for s in found.shards), "size": format_bytes(sum(s.bytes for s in found.shards))}
    facts |= {"counts": found.counts.to_json()} if found.counts.documents_in else {}
    facts |= {"metrics": top_figures(found.metrics)}
    if config.split and not any(shard.rows for shard in found.of_split(config.split)):
        known = ", ".join(sorted({shard.split for shard in found.shards if shard.rows and shard.split}))
        raise DataError(
            f"{path} has no rows in split '{config.split}'; it has: {known or 'no splits'}", "leave out --split"
        )
    table = shards.read_rows(path, found, config.split, limit)
    tokenizer = read_if_exists(join(path, "tokenizer.json"))
    return facts, decoded(table, Tokenizer.from_json(tokenizer.decode()) if tokenizer is not None else None)


def top_figures(metrics: Values) -> Values:
    """Return the metrics without those that are nested deeper than one table, which are in metrics.json."""
    figures = int | float | str
    small = {
        name: value
        for name, value in metrics.items()
        if isinstance(value, dict) and all(isinstance(v, figures) for v in value.values())
    }
    return {name: value for name, value in metrics.items() if isinstance(value, figures)} | small


def read_arrow_file(path: str, limit: int | None) -> tuple[Values, Rows]:
    """Return the facts about an Arrow IPC file, and its first rows."""
    try:
        with open_seekable(path) as source, ipc.open_file(source) as reader:
            table = reader.read_all()
            table.validate(full=True)
    except OSError as error:
        raise damaged(path, error) from error
    except UNREADABLE as error:
        raise DataError(
            f"{path} is not an Arrow IPC file: {' '.join(str(error).split())[:120]}",
            "PATH is the output of a stage, or an Arrow file",
        ) from error
    facts: Values = {
        "kind": kind_of(table.schema) or "Arrow",
        "rows": len(table),
        "columns": ", ".join(f"{f.name}: {f.type}" for f in table.schema),
    }
    if tokenizer := fact(table.schema, "tokenizer"):
        facts["tokenizer"] = tokenizer
    return facts, decoded(table if limit is None else table.slice(0, limit), None)


def read_arrow_folder(files: list[Path], limit: int | None) -> tuple[Values, Rows]:
    """Return the facts about a folder of Arrow files with the same columns, such as rejects/, and its first rows."""
    facts: Values = {}
    rows: Rows = []
    for number, file in enumerate(files):
        found, more = read_arrow_file(str(file), None if limit is None else limit - len(rows))
        rows += more
        facts = found | {"rows": found["rows"] + facts["rows"]} if number else found
    return {"files": len(files)} | facts, rows


def read_model_facts(path: Path) -> Values:
    """Return the facts about a model folder."""
    from gptctl.model.hf.config_import import read_model_config

    try:
        found = json.loads((path / "config.json").read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path / 'config.json'} is not JSON", "copy the folder again") from error
    if not isinstance(found, dict):
        raise DataError(f"{path / 'config.json'} holds no JSON object", "copy the folder again")
    shape = read_model_config(found, str(path / "config.json"))
    labels = found.get("labels", 0)
    return {"kind": "model", "parameters": shape.parameters(), "labels": labels, "config": plain(shape)}


def run_facts(path: Path) -> Values:
    """Return the checkpoints of a run, and the facts about its model."""
    checkpoints = (
        sorted(entry.name for entry in (path / "checkpoints").glob("*")) if (path / "checkpoints").exists() else []
    )
    facts: Values = {"checkpoints": ", ".join(checkpoints) or "none"}
    return facts | ({"model": read_model_facts(path / "model")} if (path / "model" / "config.json").exists() else {})


def decoded(table: pa.Table, tokenizer: Tokenizer | None) -> Rows:
    """Return the rows of a table as Python values, with the text of their tokens if there is a tokenizer."""
    rows: Rows = table.to_pylist()
    if tokenizer is not None:
        for row in rows:
            if "tokens" in row:
                row["text"] = tokenizer.decode(row["tokens"])
    return rows


def rows_table(rows: Rows) -> Table:
    """Return rows as a table with long values cut."""
    columns = tuple(rows[0])
    return Table("rows", columns, tuple(tuple(shown(row.get(column)) for column in columns) for row in rows))


def shown(value: Any) -> str:
    """Return a value as the text of a cell."""
    text = format_number(value).replace("\n", "\\n")
    return text if len(text) <= CELL_CHARACTERS else text[: CELL_CHARACTERS - 1] + "…"
