"""Read anything that gptctl wrote, as facts and rows: datasets, rejects, quarantine, runs, models, single files."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from gptctl.core.config import Values, plain
from gptctl.core.errors import DataError
from gptctl.core.formatting import format_bytes
from gptctl.core.regular_files import read_small
from gptctl.io.dataset import manifest, shards
from gptctl.io.dataset.manifest import Manifest
from gptctl.io.dataset.schema import fact, kind_of
from gptctl.io.dataset.shard_format import SUFFIXES, is_parquet, read_groups
from gptctl.io.files import UNREADABLE, damaged, open_seekable, open_stream, read_if_exists, split_suffixes
from gptctl.io.hub.uri import HubUri, is_hub
from gptctl.io.object_storage.address import file_info, is_uri, join, list_folder
from gptctl.io.recognize import recognize, wrong_content
from gptctl.model.files.locate import find_model
from gptctl.text.tokenizer import Tokenizer

Rows = list[dict[str, Any]]
TEXT_FILES = (".toml", ".txt", ".md", ".log", ".csv", ".tsv")
RECORDS = ("shards", "work")  # the folders of a dataset whose Arrow files are its own


def read_content(path: str, limit: int | None, split: str = "") -> tuple[Values, Rows]:
    """Return the facts about a path or URI, and its first rows; `split` selects those of tokens.

    Raises DataError (3) for what gptctl did not write, or if it is damaged.
    """
    if file_info(path).is_file:
        return read_file(path, limit)
    if is_hub(path) and HubUri.parse(path).kind == "model":
        path = str(find_model(path))
    content = recognize(path)
    if content.manifest:
        return read_output(path, content.manifest, limit, split)
    if content.kind == "unfinished":
        record = manifest.record_of(path)
        facts = {"stage": record["stage"], "status": record["status"], "started": record["started"]}
        return facts | run_facts(Path(path)), []
    if not is_uri(path) and (Path(path) / "config.json").exists():
        return read_model_facts(Path(path)), []
    if content.kind == "adapter":
        return {"kind": "adapter"} | read_json(join(path, "adapter_config.json"), None)[0], []
    if files := [] if is_uri(path) or content.kind == "datasets" else shard_files(Path(path)):
        return read_arrow_folder(files, limit)
    raise wrong_content(content, "output")


def shard_files(folder: Path) -> list[Path]:
    """Return the Arrow and Parquet files below a folder."""
    return sorted(file for file in folder.rglob("*") if file.suffix in SUFFIXES)


def read_output(path: str, found: Manifest, limit: int | None, split: str) -> tuple[Values, Rows]:
    """Return the facts about a complete output, and its first rows."""
    facts: Values = {"kind": found.kind, "stage": found.stage, "shards": len(found.shards)}
    if found.kind == "run":
        return facts | {"metrics": found.metrics} | run_facts(Path(path)), []
    if found.kind in ("export", "filter", "bin"):
        return facts | {"metrics": found.metrics}, []
    facts |= {"rows": sum(s.rows for s in found.shards), "size": format_bytes(sum(s.bytes for s in found.shards))}
    facts |= {"counts": found.counts.to_json()} if found.counts.documents_in else {}
    facts |= {"metrics": top_figures(found.metrics)}
    if besides := other_content(path):
        facts["see also"] = ", ".join(besides)
    if split and not any(shard.rows for shard in found.of_split(split)):
        known = ", ".join(sorted({shard.split for shard in found.shards if shard.rows and shard.split}))
        raise DataError(f"{path} has no rows in split '{split}'; it has: {known or 'no splits'}", "leave out --split")
    table = shards.read_rows(path, found, split, limit)
    tokenizer = read_if_exists(join(path, "tokenizer.json"))
    return facts, decoded(table, Tokenizer.from_json(tokenizer.decode()) if tokenizer is not None else None)


def other_content(folder: str) -> list[str]:
    """Return the paths of what a dataset has besides its shards: rejects, clusters, quarantine.jsonl."""
    entries = list_folder(folder)
    folders = [path for name, path in entries.items() if "." not in name and name not in RECORDS]
    return folders + [path for name, path in entries.items() if name == "quarantine.jsonl"]


def read_file(path: str, limit: int | None) -> tuple[Values, Rows]:
    """Return the facts about a file, and its first rows, lines or tensors."""
    suffix, _ = split_suffixes(path)
    readers = {".jsonl": read_json_lines, ".json": read_json, ".safetensors": read_tensors}
    if suffix in readers:
        return readers[suffix](path, limit)
    if suffix in TEXT_FILES:
        return read_text(path, limit)
    if suffix in (".html", ".svg", ".png", ".gguf"):
        return {"kind": f"{suffix[1:]} file", "size": format_bytes(file_info(path).size)}, []
    return read_arrow_file(path, limit)


def read_json_lines(path: str, limit: int | None) -> tuple[Values, Rows]:
    """Return the number of a file's lines, and the first of them as rows."""
    rows: Rows = []
    try:
        with open_stream(path) as source:
            lines = source.read().splitlines()
        for line in lines[:limit]:
            value = json.loads(line)
            rows.append(value if isinstance(value, dict) else {"value": value})
    except (*UNREADABLE, ValueError, RecursionError) as error:
        raise damaged(path, error) from error
    columns = dict.fromkeys(name for row in rows for name in row)
    return {"kind": "JSON lines", "rows": len(lines), "columns": ", ".join(columns)}, [
        {name: row.get(name) for name in columns} for row in rows
    ]


def read_json(path: str, limit: int | None) -> tuple[Values, Rows]:
    """Return the values of a JSON file, or the facts about a tokenizer."""
    try:
        with open_stream(path) as source:
            found = json.loads(source.read())
    except (*UNREADABLE, ValueError, RecursionError) as error:
        raise damaged(path, error) from error
    if isinstance(found, dict) and isinstance(found.get("model"), dict) and "vocab" in found["model"]:
        tokenizer = Tokenizer.from_json(json.dumps(found))
        return {"kind": "tokenizer", "vocab_size": tokenizer.vocab_size, "hash": tokenizer.hash}, []
    if isinstance(found, list):
        return {"kind": "JSON", "rows": len(found)}, [{"value": value} for value in found[:limit]]
    return {"kind": "JSON"} | (found if isinstance(found, dict) else {"value": found}), []


def read_text(path: str, limit: int | None) -> tuple[Values, Rows]:
    """Return the number of a text file's lines, and the first of them."""
    try:
        with open_stream(path) as source:
            lines = source.read().decode().splitlines()
    except UNREADABLE as error:
        raise damaged(path, error) from error
    return {"kind": "text", "lines": len(lines)}, [{"line": line} for line in lines[:limit]]


def read_tensors(path: str, limit: int | None) -> tuple[Values, Rows]:
    """Return the number of a safetensors file's tensors, and the names, types and shapes of the first of them."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            slices = {name: file.get_slice(name) for name in islice(names, limit)}
            rows = [
                {"tensor": name, "dtype": part.get_dtype(), "shape": part.get_shape()} for name, part in slices.items()
            ]
    except (SafetensorError, OSError) as error:
        raise damaged(path, error) from error
    return {"kind": "weights", "tensors": len(names)}, rows


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
    """Return the facts about an Arrow IPC or Parquet file, and its first rows."""
    kind = "Parquet" if is_parquet(path) else "Arrow"
    first: Rows = []
    count = 0
    try:
        with open_seekable(path) as source:
            for table in read_groups(source, path):
                table.validate(full=True)
                count += len(table)
                first += table.slice(0, None if limit is None else limit - len(first)).to_pylist()
                schema = table.schema
    except OSError as error:
        raise damaged(path, error) from error
    except UNREADABLE as error:
        expected = "a Parquet" if is_parquet(path) else "an Arrow IPC"
        raise DataError(
            f"{path} is not {expected} file: {' '.join(str(error).split())[:120]}",
            "PATH is what a command wrote, or a file of it",
        ) from error
    facts: Values = {
        "kind": kind_of(schema) or kind,
        "rows": count,
        "columns": ", ".join(f"{f.name}: {f.type}" for f in schema),
    }
    if tokenizer := fact(schema, "tokenizer"):
        facts["tokenizer"] = tokenizer
    return facts, first


def read_arrow_folder(files: list[Path], limit: int | None) -> tuple[Values, Rows]:
    """Return the facts about a folder of shard files with the same columns, such as rejects/, and its first rows."""
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
        found = json.loads(read_small(path / "config.json"))
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
