"""Train or take a tokenizer and turn documents into token shards, split into train, val and test."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gptctl.core import atomic, plugins, seeds
from gptctl.core.config import DataConfig, Settings, argument, flag, key
from gptctl.core.context import Context
from gptctl.core.errors import DataError, UsageError
from gptctl.core.summary import Counts, Summary, Table, human_bytes
from gptctl.io import dataset, jobs
from gptctl.io.dataset import Made
from gptctl.io.inputs import Inputs, read_task
from gptctl.io.jobs import Job, Outcome, Runner
from gptctl.io.records import ReadOptions, Task
from gptctl.io.schema import with_kind
from gptctl.io.stream import StreamWriter
from gptctl.text import splits, tokenizer_training
from gptctl.text.tokenizer import Tokenizer

SPLITS = ("train", "val", "test")
EXAMPLES = (
    "gptctl tokenize unique -o tokens --vocab-size 4096",
    "gptctl tokenize corpus.txt -o chars --algorithm chars --val 0.1 --test 0 --set split.by=position",
    "gptctl tokenize unique -o again --tokenizer tokens/tokenizer.json",
)


class Split(Settings):
    """How documents are divided into train, val and test."""

    by: Literal["cluster", "text", "position"] = key(
        "cluster", "cluster: near-duplicates stay together (text where dedup did not run); text: by hash of the text; "
        "position: the last part of the input.",
    )  # fmt: skip
    salt: str = key("gptctl", "Changes which documents go where.")


class Tokenize(DataConfig):
    """Tokenize documents into shards that training maps into memory.

    Trains a byte-level BPE on the training split unless --tokenizer names one. Text that contains the end-of-text
    marker stays text. Writes OUT/shards/train, val and test, and OUT/tokenizer.json.
    """

    inputs: tuple[str, ...] = argument(
        ..., "INPUT...", "Files, folders, globs, URIs, a dataset folder, or - for a pipe."
    )
    out: str = flag(..., "Folder to write.", panel="Output", short="-o", runtime=True)
    algorithm: Literal["bpe", "words", "chars", "bytes"] = flag("bpe", "What a token is.", panel="Tokenizer")
    vocab_size: int = flag(8192, "Tokens in the vocabulary (bpe, words).", panel="Tokenizer", ge=257, le=2**24)
    tokenizer: str | None = flag(
        None, "A tokenizer.json to use instead of training one.", panel="Tokenizer", runtime=True
    )
    val: float = flag(0.01, "Share of documents for validation.", panel="Splits", ge=0, lt=1)
    test: float = flag(0.01, "Share of documents for testing.", panel="Splits", ge=0, lt=1)
    split: Split = key(Split(), "How documents are divided.")
    train_bytes: int = key(2**30, "Text that a tokenizer is trained on, at most; a sample by hash beyond it.", ge=1024)


@dataclass(frozen=True)
class EncodeTask:
    """Encodes the documents of a task, in a worker."""

    config: Tokenize
    tokenizer_json: str
    cuts: tuple[int, int]

    def __call__(self, task: Task, table: pa.Table) -> Outcome:
        """Encode and split one task's documents."""
        coder = cached_tokenizer(self.tokenizer_json)
        first = json.loads(task.note)["first_character"]
        counts = Counts(documents_in=len(table), kept=len(table), bytes_in=jobs.text_bytes(table))
        counts.bytes_kept = counts.bytes_in
        facts = {
            "tokenizer": coder.hash,
            "vocab_size": str(coder.vocab_size),
            "end_of_text_id": str(coder.end_of_text_id),
        }
        tables: dict[str, pa.Table] = {}
        figures: dict[str, Any] = {}
        for name, part in divide(table, self.config, first, self.cuts).items():
            if not len(part):
                continue
            tokens = with_end(coder, part)
            n_bytes = pc.binary_length(part["text"]).cast(pa.int64())
            made = pa.table({"doc_id": part["id"], "tokens": tokens, "n_bytes": n_bytes})
            tables[name] = made.replace_schema_metadata(with_kind(made.schema, "tokens", **facts).metadata)
            figures[name] = {
                "documents": len(part),
                "tokens": len(tokens.values),
                "bytes": int(pc.sum(n_bytes).as_py()),
            }
        return Outcome(tables, counts, figures)


def with_end(coder: Tokenizer, part: pa.Table) -> pa.LargeListArray:
    """Encode documents, each closed by end-of-text unless it was cut (its rest is in another split)."""
    encoded = coder.encode_batch(part["text"].to_pylist())
    lengths = np.diff(encoded.offsets.to_numpy())
    closed = (
        part["closed"].to_numpy(zero_copy_only=False) if "closed" in part.column_names else np.ones(len(part), bool)
    )
    offsets = np.concatenate([[0], np.cumsum(lengths + closed)])
    values = np.empty(int(offsets[-1]), coder.dtype)
    ends = offsets[1:][closed] - 1
    is_text = np.ones(len(values), bool)
    is_text[ends] = False
    values[ends] = coder.end_of_text_id
    values[is_text] = encoded.values.to_numpy()
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(values))


@lru_cache(maxsize=1)
def cached_tokenizer(text: str) -> Tokenizer:
    """Build a tokenizer once per worker."""
    return Tokenizer.from_json(text)


def divide(table: pa.Table, config: Tokenize, first: int, cuts: tuple[int, int]) -> dict[str, pa.Table]:
    """Divide documents into the splits. By position, the document at a boundary is cut there."""
    if config.split.by == "position":
        return divide_by_position(table, first, cuts)
    keys = table["cluster_id"] if config.split.by == "cluster" and "cluster_id" in table.column_names else table["text"]
    where = splits.assign(keys.combine_chunks(), config.val, config.test, config.split.salt)
    return {name: table.filter(pa.array(where == number)) for number, name in enumerate(SPLITS)}


def divide_by_position(table: pa.Table, first: int, cuts: tuple[int, int]) -> dict[str, pa.Table]:
    """Divide at character positions of the whole input; `first` is that of this table's first character."""
    rows: dict[str, list[tuple[str, str, bool]]] = {name: [] for name in SPLITS}
    for identity, text in zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True):
        borders = [min(max(cut - first, 0), len(text)) for cut in cuts]
        pieces = zip(SPLITS, [0, *borders], [*borders, len(text)], strict=True)
        for name, start, stop in pieces:
            if stop > start or (not text and name == "train"):
                rows[name].append((identity, text[start:stop], stop == len(text)))
        first += len(text)
    types = (("id", pa.string()), ("text", pa.large_string()), ("closed", pa.bool_()))
    return {
        name: pa.table({column: pa.array([row[i] for row in part], kind) for i, (column, kind) in enumerate(types)})
        for name, part in rows.items()
    }


def plan(config: Tokenize, context: Context) -> Summary:
    """Say what would be done."""
    inputs = Inputs(config.inputs, dataset.options(config))
    facts: dict[str, Any] = {
        "inputs": len(inputs.order),
        "input_bytes": inputs.total_bytes(),
        "workers": config.worker_count(),
    }
    facts["tokenizer"] = config.tokenizer or f"{config.algorithm}, trained here"
    return Summary("tokenize", "planned", (config.out,), plan=facts)


def run(config: Tokenize, context: Context | None = None) -> Summary:
    """Tokenize the inputs into a folder of token shards."""
    context = context or Context()
    if config.out == "-":
        raise UsageError("tokenize writes three splits and cannot write to a pipe", "name a folder with -o")
    if config.val + config.test >= 1:
        raise UsageError(
            f"--val {config.val} and --test {config.test} leave nothing to train on", "their sum must be below 1"
        )
    given = read_tokenizer(config.tokenizer) if config.tokenizer else None
    also = {"tokenizer": cached_tokenizer(given).hash} if given else {}
    reading = dataset.options(config)
    inputs = Inputs(config.inputs, reading)
    runner: Runner = plugins.load("gptctl.runners", config.engine).run

    def make(out: Path | None, _: StreamWriter | None) -> Made:
        assert out is not None
        tasks = inputs.replayable(out / "work", config.limit)
        starts, cuts = measure(config, reading, tasks, runner) if config.split.by == "position" else (None, (0, 0))
        text = given or train(config, reading, tasks, starts, cuts, inputs.total_bytes(), context)
        coder = cached_tokenizer(text)
        atomic.write_text(out / "tokenizer.json", text)
        noted = (replace(task, note=note(coder.hash, starts[task.index] if starts else 0)) for task in tasks())
        job = Job(EncodeTask(config, text, cuts), reading, out, compression=None)
        totals = jobs.run(job, noted, runner, config.worker_count(), context)
        metrics = figures(totals.figures, coder)
        if totals.counts.kept and not metrics["train"]["tokens"]:
            raise DataError("the training split is empty", "give more documents, or lower --val and --test")
        return Made(totals, metrics, coder.hash, compression=None)

    summary = dataset.produce(config, config.out, context, inputs, "tokens", make, also)
    for name, wanted in (("val", config.val), ("test", config.test)):
        if wanted and not summary.metrics[name]["tokens"]:
            context.warn(f"the {name} split is empty: too few documents for --{name} {wanted}")
    return replace(
        summary, tables=(table_of(summary.metrics),), next=f"gptctl pretrain {config.out} -o run --preset tiny-modern"
    )


def note(tokenizer_hash: str, first_character: int) -> bytes:
    """Write down what a task's encoding depends on besides its documents."""
    return json.dumps({"tokenizer": tokenizer_hash, "first_character": first_character}).encode()


def read_tokenizer(path: str) -> str:
    """Read a tokenizer.json, or the one in a folder. Raises UsageError (2) if absent, DataError (3) if it is none."""
    file = Path(path) / "tokenizer.json" if Path(path).is_dir() else Path(path)
    if not file.exists():
        raise UsageError(f"no such tokenizer: {file}", "give a tokenizer.json or a folder that holds one")
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file} is not a tokenizer.json: not UTF-8", "give a file of Hugging Face's tokenizers library"
        ) from error
    Tokenizer.from_json(text)
    return text


def characters(reading: ReadOptions, task: Task) -> int:
    """Count one task's characters, in a worker."""
    return int(pc.sum(pc.utf8_length(read_task(task, reading)[0]["text"])).as_py() or 0)


def measure(
    config: Tokenize, reading: ReadOptions, tasks: Callable[[], Iterator[Task]], runner: Runner
) -> tuple[list[int], tuple[int, int]]:
    """Give each task's first character and the positions where val and test begin."""
    ends = np.cumsum([0, *runner(partial(characters, reading), tasks(), config.worker_count())]).tolist()
    total = ends[-1]
    return ends[:-1], (int(total * (1 - config.val - config.test)), int(total * (1 - config.test)))


def train(
    config: Tokenize, reading: ReadOptions, tasks: Callable[[], Iterator[Task]], starts: list[int] | None,
    cuts: tuple[int, int], size: int | None, context: Context,
) -> str:  # fmt: skip
    """Train a tokenizer on the training split; on a sample by text hash where the input is larger than train_bytes.

    Characters are collected from all splits: a symbol seen only in val must still have a name.
    """
    fraction = min(1.0, config.train_bytes / size) if size else 1.0

    def texts() -> Iterator[str]:
        for task in tasks():
            table = read_task(task, reading)[0]
            if config.algorithm != "chars":
                table = divide(table, config, starts[task.index] if starts else 0, cuts)["train"]
            for text in table["text"].to_pylist():
                if fraction == 1.0 or seeds.unit_hash("tokenizer", text.encode()) < fraction:
                    yield text
            context.progress(task.index + 1, None, "shards read for the tokenizer")
            context.stop.check("stopped")

    return tokenizer_training.train(texts(), config.algorithm, config.vocab_size)


def figures(parts: list[dict[str, Any]], coder: Tokenizer) -> dict[str, Any]:
    """Sum the splits' documents, tokens and bytes; tell the compression."""
    total: dict[str, Any] = {name: {"documents": 0, "tokens": 0, "bytes": 0} for name in SPLITS}
    for part in parts:
        for name, values in part.items():
            for what, value in values.items():
                total[name][what] += value
    train_part: dict[str, int] = total["train"]
    bytes_per_token = round(train_part["bytes"] / train_part["tokens"], 4) if train_part["tokens"] else None
    return total | {"vocab_size": coder.vocab_size, "tokenizer": coder.hash, "bytes_per_token": bytes_per_token}


def table_of(metrics: dict[str, Any]) -> Table:
    """Show the splits."""
    rows = [
        (name, f"{metrics[name]['documents']:,}", f"{metrics[name]['tokens']:,}", human_bytes(metrics[name]["bytes"]))
        for name in SPLITS
    ]
    rows.append(("vocabulary", "", f"{metrics['vocab_size']:,}", f"{metrics['bytes_per_token']} B/token"))
    return Table("tokenize", ("", "documents", "tokens", "text"), tuple(rows))
