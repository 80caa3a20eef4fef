"""DATA of finetune and eval: the files of its splits, and their texts, with labels where the task needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.fs as pafs

from gptctl.core import seeds
from gptctl.core.config import ReadingOptions
from gptctl.core.context import Context
from gptctl.core.errors import DataError, UsageError
from gptctl.io.dataset import manifest
from gptctl.io.dataset.schema import concat
from gptctl.io.files import plain_path, split_suffixes
from gptctl.io.hub import data_files as hub_data
from gptctl.io.hub.uri import HubUri, is_hub
from gptctl.io.input.blocks import ReadOptions, Tolerance, UnreadableRecord
from gptctl.io.input.inputs import Inputs
from gptctl.io.input.read_task import read_task
from gptctl.io.labels import NO_LABEL, label_texts, lacking_records
from gptctl.io.object_storage.address import base_name, file_info, list_folder
from gptctl.pipeline import finalize
from gptctl.pipeline.task_results import PipelineTotals

VAL_SHARE = 0.1

Convert = Callable[[pa.Table, str], pa.Table]  # from whole records to documents; the text names the split


@dataclass(frozen=True)
class Splits:
    """The path of each split, or `whole` if the data has no named splits."""

    named: dict[str, str]
    whole: str | None


def find_splits(data: str) -> Splits:
    """Find the files or folders named train, val (validation, valid, dev) and test.

    An output of `gptctl split` has them too. A single file or folder with such a name is that split, and any other is
    data without splits. Raises UsageError (2) if the path does not exist.
    """
    data = plain_path(data)
    if data == "-":
        return Splits({}, data)
    named: dict[str, str] = {}
    if file_info(data).type == pafs.FileType.NotFound:
        raise UsageError(
            f"no such file or folder: {data}", "DATA is a file, or a folder with train, val and test files"
        )
    if manifest.is_ours(data) and (divided := manifest.read(data)).kind == "documents" and divided.splits:
        return Splits({split: manifest.split_folder(data, split) for split in divided.splits}, None)
    if is_hub(data):
        named = hub_data.splits_of(HubUri.parse(data))
        return Splits(named, None) if named else of_name(data)
    for name, place in list_folder(data).items():
        split = manifest.SPLIT_NAMES.get(stem(name))
        if split in named:
            raise DataError(f"{data} has two {split} splits: {base_name(named[split])} and {name}", "keep one of them")
        if split:
            named[split] = place
    if named:
        return Splits(named, None)
    return of_name(data)


def of_name(data: str) -> Splits:
    """Return data without named splits: one split if its own name says so."""
    split = manifest.SPLIT_NAMES.get(stem(base_name(data)))
    return Splits({split: data}, None) if split else Splits({}, data)


def stem(name: str) -> str:
    """Return a name without the suffixes of format and compression: "val" for "val.jsonl.gz"."""
    format_suffix, codec = split_suffixes(name)
    lowered = name.lower()
    if codec:
        lowered = lowered.rsplit(".", 1)[0]
    return lowered.removesuffix(format_suffix) if format_suffix else lowered


def read_documents(
    config: ReadingOptions,
    path: str,
    warn: Callable[[str], None],
    whole_records: bool = False,
    unreadable: list[UnreadableRecord] | None = None,
) -> tuple[pa.Table, dict[str, str]]:
    """Read all documents of a file or folder, and its fingerprint. Warn of records that are left out.

    With `whole_records`, the text of a document is its record as JSON. The records that are left out are added to
    `unreadable`, which becomes quarantine.jsonl. Raises DataError (3) if too few are readable.
    """
    reading = replace(ReadOptions.from_config(config), whole_records=whole_records)
    inputs = Inputs((path,), reading)
    if unused := inputs.unused_options():
        warn(unused)
    prints = inputs.fingerprints(read_remote=True)  # before the texts are read; the run compares them at its start
    tables: list[pa.Table] = []
    totals = PipelineTotals()
    for task in inputs.tasks(config.limit):
        found = read_task(task, reading)
        tables.append(found.documents)
        totals.add_read(found)
    details = path if unreadable is None else "quarantine.jsonl"
    finalize.check_readable(totals, Tolerance.from_config(config), details, warn)
    if unreadable is not None:
        unreadable += totals.unreadable
    return concat(tables), inputs.stream_fingerprint() if prints is None else prints


def training_fingerprints(data: str) -> dict[str, str]:
    """Return the fingerprints of the files that `training_splits` reads."""
    splits = find_splits(data)
    sources = {"train": splits.whole or splits.named.get("train"), "val": splits.named.get("val")}
    return {
        f"{split}/{name}": value
        for split, source in sources.items()
        if source
        for name, value in (Inputs((source,), ReadOptions()).fingerprints(read_remote=True) or {}).items()
    }


def training_splits(
    config: ReadingOptions,
    data: str,
    context: Context,
    convert: Convert | None = None,
    unreadable: list[UnreadableRecord] | None = None,
    held_by: str = "text",
) -> tuple[dict[str, pa.Table], dict[str, str]]:
    """Return the tables "train" and "val", and the fingerprints of what was read. The test split is never opened.

    `convert` makes the documents of a split from whole records; without it, a column has their text. Without a named
    val split, val is 10 % of the training documents, by the hash of the column `held_by`, and a message says so.
    Records that cannot be read are added to `unreadable`. Raises DataError (3) if the data has no training split.
    """
    splits = find_splits(data)
    source = splits.whole or splits.named.get("train")
    if source is None:
        raise DataError(
            f"{data} has no train split; it has: {', '.join(splits.named)}", "name a file or folder 'train'"
        )
    table, prints = read_documents(config, source, context.warn, convert is not None, unreadable)
    table = convert(table, "train") if convert else table
    prints = {f"train/{name}": value for name, value in prints.items()}
    if "val" in splits.named:
        val_path = splits.named["val"]
        val, val_prints = read_documents(config, val_path, context.warn, convert is not None, unreadable)
        val = convert(val, "val") if convert else val
        return {"train": table, "val": val}, prints | {f"val/{name}": value for name, value in val_prints.items()}
    held = held_out(table, held_by)
    context.info(
        f"{source} has no val split: {sum(held):,} of its {len(held):,} texts are held out as val, by a hash of the "
        f"{held_by}"
    )
    return {
        "train": table.filter(pa.array([not is_held for is_held in held], pa.bool_())),
        "val": table.filter(pa.array(held, pa.bool_())),
    }, prints


def held_out(table: pa.Table, column: str = "text") -> list[bool]:
    """Return a mask of the 10 % of documents that are the val split of data without one, by the hash of a column."""
    return [seeds.unit_hash("val", text.encode()) < VAL_SHARE for text in table[column].to_pylist()]


def evaluation_splits(
    config: ReadingOptions, data: str, trained_on: dict[str, str], context: Context
) -> Iterator[tuple[str, pa.Table]]:
    """Yield (split, documents) for val and test, or ("all", documents) if the data has no named splits.

    Data that the model was finetuned on is recognized by its content hash. Only its held-out part is yielded, as "val";
    if other files were held out, all of it is yielded as "train". In both cases a message says so.
    """
    splits = find_splits(data)
    for name in ("val", "test"):
        if name in splits.named:
            yield name, read_documents(config, splits.named[name], context.warn)[0]
    if splits.named.keys() & {"val", "test"}:
        return
    source = splits.whole or splits.named["train"]
    table, prints = read_documents(config, source, context.warn)
    if not set(prints.values()) <= {value for name, value in trained_on.items() if name.startswith("train/")}:
        yield "all", table
    elif any(name.startswith("val/") for name in trained_on):
        context.info(f"the model was finetuned on {source}: these are scores of its training texts")
        yield "train", table
    else:
        held = held_out(table)
        context.info(
            f"the model was finetuned on {source}: only the {sum(held):,} of {len(held):,} texts that were held out "
            "from its training are scored, as val"
        )
        yield "val", table.filter(pa.array(held, pa.bool_()))


def hold_out(tables: dict[str, pa.Table], column: str, fold: str) -> dict[str, pa.Table]:
    """Move the rows of one fold from all tables to a table of their own, "held out".

    Raises DataError (3) for a missing column or value, UsageError (2) if no row is in that fold.
    """
    kept: dict[str, pa.Table] = {}
    held: list[pa.Table] = []
    for name, table in tables.items():
        inside = [value == fold for value in strings_of(table, column, name, "fold", "name it with --fold-column")]
        held.append(table.filter(pa.array(inside, pa.bool_())))
        kept[name] = table.filter(pa.array([not one for one in inside], pa.bool_()))
    kept["held out"] = pa.concat_tables(held, promote_options="permissive")
    if not len(kept["held out"]):
        raise UsageError(f"no text is in fold '{fold}'", "see the column's values: gptctl inspect")
    return kept


def with_labels(table: pa.Table, column: str, where: str) -> tuple[pa.Table, list[UnreadableRecord]]:
    """Return the documents that have a label, and a line of the quarantine for each of the others.

    Raises DataError (3) for a missing column, and if no document has a label.
    """
    check_column(table, column, where, "name it with --label-column")
    reasons = ["" if label is not None else NO_LABEL for label in label_texts(table[column])]
    lacking = lacking_records(table, reasons)
    if len(table) and len(lacking) == len(table):
        raise DataError(f"{where}: no text has a label in column '{column}'", "name another with --label-column")
    return (table.filter(pa.array([not reason for reason in reasons], pa.bool_())) if lacking else table), lacking


def lacking_warning(lacking: Sequence[UnreadableRecord], texts: int, where: str) -> str:
    """Return a line about texts that are left out because they have no label."""
    counts, first = f"{len(lacking):,} of {texts:,} texts have no label", lacking[0].position
    return f"{where}: {counts} and are left out; the first is {first}"


def labels_of(table: pa.Table, column: str, where: str) -> list[str]:
    """Return the labels as text. Raises DataError (3) for a missing column or label, naming the row."""
    return strings_of(table, column, where, "label", "name it with --label-column")


def strings_of(table: pa.Table, column: str, where: str, what: str, hint: str) -> list[str]:
    """Return a column as text. Raises DataError (3) if the column, with this hint, or a value is missing."""
    check_column(table, column, where, hint)
    found = []
    for row, value in enumerate(label_texts(table[column])):
        if value is None:
            raise DataError(f"{where}: row {row} (id {table['id'][row].as_py()}) has no {what}", "fill or remove it")
        found.append(value)
    return found


def check_column(table: pa.Table, column: str, where: str, hint: str) -> None:
    """Raise DataError (3) with this hint if a column is missing."""
    if column not in table.column_names:
        raise DataError(f"{where} has no column '{column}'; it has: {', '.join(table.column_names)}", hint)


def label_names(table: pa.Table, column: str) -> list[str]:
    """Return the labels of the training split, sorted. Raises DataError (3) if there are fewer than two."""
    names = sorted(set(labels_of(table, column, "train")))
    if len(names) < 2:
        raise DataError(
            f"column '{column}' has {len(names)} label in the training split",
            "a classifier needs two or more; see --label-column",
        )
    return names


def known_labels(table: pa.Table, column: str, names: Sequence[str], split: str) -> list[str]:
    """Return a split's labels. Raises DataError (3) for a label that the training split does not have."""
    labels = labels_of(table, column, split)
    for row, label in enumerate(labels):
        if label not in names:
            raise DataError(
                f"{split}: row {row} has the label '{label}', which the training split lacks",
                f"known: {', '.join(names)}",
            )
    return labels
