"""Train or take a tokenizer and turn documents into token shards, split into train, val and test."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
from numpy.typing import NDArray

from gptctl.core import atomic, seeds
from gptctl.core.config import ReadingOptions, SeedOption, Settings, WorkerOptions, argument, flag, key, output
from gptctl.core.context import Context
from gptctl.core.errors import DataError, UsageError
from gptctl.core.formatting import format_bytes
from gptctl.core.summary import Counts, Summary, Table
from gptctl.executors import Executor, _threads, load_executor
from gptctl.io.dataset.schema import text_bytes, with_kind
from gptctl.io.files import plain_path, read_if_exists
from gptctl.io.input.blocks import ReadOptions, ShardTask
from gptctl.io.input.inputs import Inputs
from gptctl.io.input.read_task import read_task
from gptctl.io.object_storage.address import base_name, file_info, join, list_folder, parent
from gptctl.pipeline import shuffle
from gptctl.pipeline.dataset_output import StageResult, open_dataset
from gptctl.pipeline.shard_pipeline import ShardPipeline
from gptctl.pipeline.shuffle import ShuffleMerge
from gptctl.pipeline.task_results import TaskOutput
from gptctl.text import split_documents
from gptctl.text.split_documents import Pieces, whole
from gptctl.text.splits import NAMES as SPLITS
from gptctl.text.tokenization import fast_encode, importing, token_rows, training
from gptctl.text.tokenization.fast_encode import FastEncoder
from gptctl.text.tokenizer import Tokenizer

EXAMPLES = (
    "gptctl tokenize unique -o tokens --vocab-size 4096",
    "gptctl tokenize corpus.txt -o chars --algorithm chars --val 0.1 --test 0 --set split.by=position",
    "gptctl tokenize unique -o again --tokenizer tokens/tokenizer.json --shuffle",
)
# The trainer counts pairs in 32 bits and does not notice an overflow: at 8 GiB, a pair that is a quarter of all (two
# blanks, two dashes) is counted 2^31 times.
MANY_TRAINING_BYTES = 2**33
# What the encoders are compared on, from each of three places of the input.
SAMPLE_BYTES = 2**16
SAMPLE_CHARACTERS = 2000  # of one document


class Split(Settings):
    """How documents are divided into train, val and test."""

    by: Literal["cluster", "text", "position"] = key(
        "cluster", "cluster: near-duplicates stay together (text where dedup did not run); text: by hash of the text; "
        "position: the last part of the input.",
    )  # fmt: skip
    salt: str = key("gptctl", "Changes which documents go where.")


class Tokenize(ReadingOptions, WorkerOptions, SeedOption):
    """Tokenize documents into shards that training maps into memory.

    Trains a byte-level BPE on the training split unless --tokenizer names one: a tokenizer.json, vocab.json with
    merges.txt, a *.tiktoken file, or a folder of these. Text that contains the end-of-text marker stays text. Writes
    OUT/shards/train, val and test, and OUT/tokenizer.json.
    """

    inputs: tuple[str, ...] = argument(
        ..., "INPUT...", "Files, folders, globs, URIs, a dataset folder, or - for a pipe."
    )
    out: str = output(..., "Folder or URI to write.")
    algorithm: Literal["bpe", "words", "chars", "bytes"] = flag("bpe", "What a token is.", panel="Tokenizer")
    vocab_size: int = flag(8192, "Tokens in the vocabulary (bpe, words).", panel="Tokenizer", ge=257, le=2**24)
    tokenizer: str | None = flag(
        None,
        "File or folder of a tokenizer to use instead of training one.",
        panel="Tokenizer",
        runtime=True,
        reads=True,
    )
    split_pattern: Literal["gpt2", "modern", "o200k"] | None = flag(
        None, "Where merges stop: gpt2 (default), modern (as cl100k: digits by three) or o200k. Needed for a "
        "*.tiktoken file of unknown name.", panel="Tokenizer",
    )  # fmt: skip
    val: float = flag(0.01, "Share of documents for validation.", panel="Splits", ge=0, lt=1)
    test: float = flag(0.01, "Share of documents for testing.", panel="Splits", ge=0, lt=1)
    shuffle: bool = flag(
        False, "Order each split by a hash of seed and id instead of as read.", panel="Splits", switch=True
    )
    split: Split = key(Split(), "How documents are divided.")
    train_bytes: int = key(2**30, "Text that a tokenizer is trained on, about; a sample by hash beyond it.", ge=1024)
    train_chars_per_doc: int = key(
        10_000, "Characters of one document that a tokenizer is trained on; 0 takes all.", ge=0
    )
    encoder: Literal["auto", "gigatoken", "tokenizers"] = key(
        "auto", "auto: gigatoken where it gives the ids of tokenizers for samples; gigatoken: fail where it does not. "
        "The output is the same.", runtime=True,
    )  # fmt: skip


@dataclass(frozen=True)
class EncodeTask:
    """Encodes the documents of a task, in a worker."""

    config: Tokenize
    tokenizer: Path
    tokenizer_hash: str
    cuts: tuple[int, int]
    fast: FastEncoder | None

    def __getstate__(self) -> dict[str, Any]:
        """Travel without gigatoken's instance, which holds a lock and a cache."""
        return vars(self) | {"fast": self.fast is not None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Load one where the task arrives, for one thread."""
        coder = worker_tokenizer(state["tokenizer"], state["tokenizer_hash"])
        vars(self).update(state | {"fast": FastEncoder(coder) if state["fast"] else None})

    def __call__(self, task: ShardTask, table: pa.Table) -> TaskOutput:
        """Encode and split one task's documents."""
        coder = self.fast.coder if self.fast else worker_tokenizer(self.tokenizer, self.tokenizer_hash)
        pieces = divide(table, self.config, json.loads(task.payload)["first_character"], self.cuts)
        tokens = self.fast.encode(pieces.texts) if self.fast else coder.encode_batch(pieces.texts.to_pylist())
        end = np.array([coder.end_of_text_id], coder.dtype).tobytes()
        # In another order the rest of a document that was cut does not follow it: close both.
        rows = token_rows.close(token_rows.as_rows(tokens), None if self.config.shuffle else pieces.closed, end)
        n_bytes = pc.binary_length(pieces.texts).cast(pa.int64())
        made = pa.table({"doc_id": pieces.ids, "tokens": rows, "n_bytes": n_bytes})
        if self.config.shuffle:
            made = made.append_column(shuffle.ORDER, shuffle.hashes(pieces.ids, self.config.seed))
        finish = Finish.of(coder)
        tables: dict[str, pa.Table] = {}
        figures: dict[str, Any] = {"text_tokens": len(tokens.values), "words": token_rows.count_words(pieces.texts)}
        for number, name in enumerate(SPLITS):
            part = made.filter(token_rows.mask(pieces.split == number))
            if not len(part):
                continue
            width = coder.dtype.itemsize
            figures[name] = {
                "documents": len(part),
                "tokens": int(pc.sum(pc.binary_length(part["tokens"])).as_py()) // width,
                "bytes": int(pc.sum(part["n_bytes"]).as_py()),
            }
            lists = finish(part)
            tables[name] = shuffle.sort(part) if self.config.shuffle else lists
            if name == "train":
                figures["seen"] = packed(token_rows.ids_in_use(lists["tokens"].chunk(0), coder.vocab_size))
        counts = Counts(documents_in=len(table), kept=len(table), bytes_in=text_bytes(table))
        counts.bytes_kept = counts.bytes_in
        return TaskOutput(tables, counts, figures)


@dataclass(frozen=True)
class Finish:
    """Gives rows their final form: tokens as lists, and in the schema what they were made with."""

    tokenizer_hash: str
    vocab_size: int
    end_of_text_id: int
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, coder: Tokenizer) -> Finish:
        """Note the facts of a tokenizer."""
        return cls(coder.hash, coder.vocab_size, coder.end_of_text_id, coder.dtype)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Return a table of kind "tokens"."""
        lists = token_rows.as_lists(whole(rows["tokens"]), self.dtype)
        made = pa.table({"doc_id": rows["doc_id"], "tokens": lists, "n_bytes": rows["n_bytes"]})
        facts = {
            "tokenizer": self.tokenizer_hash,
            "vocab_size": str(self.vocab_size),
            "end_of_text_id": str(self.end_of_text_id),
        }
        return made.replace_schema_metadata(with_kind(made.schema, "tokens", **facts).metadata)


def packed(seen: NDArray[np.bool_]) -> str:
    """Write marks as text, eight in a byte."""
    return base64.b64encode(np.packbits(seen).tobytes()).decode()


@lru_cache(maxsize=1)
def worker_tokenizer(path: Path, content: str) -> Tokenizer:
    """Read the tokenizer once per worker; `content` is its hash."""
    return Tokenizer.from_json(path.read_text(encoding="utf-8"))


def divide(table: pa.Table, config: Tokenize, first: int, cuts: tuple[int, int]) -> Pieces:
    """Divide documents into the splits. `first` and `cuts` count characters of the input, for splits by position."""
    if config.split.by == "position":
        return split_documents.by_position(table, first, cuts)
    column = "cluster_id" if config.split.by == "cluster" and "cluster_id" in table.column_names else "text"
    return split_documents.by_hash(table, column, config.val, config.test, config.split.salt)


def check(config: Tokenize) -> None:
    """Refuse what cannot be done. Raises UsageError (2)."""
    if config.out == "-":
        raise UsageError("tokenize writes three splits and cannot write to a pipe", "name a folder with -o")
    if config.val + config.test >= 1:
        raise UsageError(
            f"--val {config.val} and --test {config.test} leave nothing to train on", "their sum must be below 1"
        )


def plan(config: Tokenize, context: Context) -> Summary:
    """Check the command, and a tokenizer that is given; say what would be done."""
    check(config)
    if config.tokenizer:
        Tokenizer.from_json(read_tokenizer(config.tokenizer, config.split_pattern))
    inputs = Inputs(config.inputs, ReadOptions.from_config(config))
    facts: dict[str, Any] = {
        "inputs": len(inputs.sources),
        "input_bytes": inputs.total_bytes(),
        "workers": config.worker_count(),
    }
    facts["tokenizer"] = config.tokenizer or f"{config.algorithm}, trained here"
    return Summary("tokenize", "planned", (config.out,), plan=facts)


def run(config: Tokenize, context: Context | None = None) -> Summary:
    """Tokenize the inputs into a folder of token shards."""
    context = context or Context()
    check(config)
    given = read_tokenizer(config.tokenizer, config.split_pattern) if config.tokenizer else None
    coder = Tokenizer.from_json(given) if given else None
    also = {"tokenizer": coder.hash} if coder else {}
    inputs = Inputs(config.inputs, ReadOptions.from_config(config))

    with open_dataset(config.out, "tokens", config, context, inputs, also) as dataset:
        if not dataset.up_to_date:
            assert dataset.folder is not None
            dataset.commit(encode(config, context, inputs, dataset.folder, coder, given))
    summary = dataset.summary
    for name, wanted in (("val", config.val), ("test", config.test)):
        if wanted and not summary.metrics[name]["tokens"]:
            context.warn(f"the {name} split is empty: too few documents for --{name} {wanted}")
    follow = f"gptctl pretrain {shlex.quote(config.out)} -o run --preset tiny-modern"
    return replace(summary, tables=(table_of(summary.metrics),), next=follow)


def encode(
    config: Tokenize, context: Context, inputs: Inputs, out: Path, coder: Tokenizer | None, text: str | None
) -> StageResult:
    """Train a tokenizer where none is given, choose the encoder, and write the shards."""
    reading, executor = ReadOptions.from_config(config), load_executor(config)
    tasks = inputs.repeatable_tasks(out / "work", config.limit)
    starts, cuts = measure(config, reading, tasks, executor) if config.split.by == "position" else (None, (0, 0))
    if coder is None or text is None:
        text = train(config, reading, tasks, starts, cuts, text_size(inputs), context)
        coder = Tokenizer.from_json(text)
    atomic.write_text(out / "tokenizer.json", text)
    sample = sample_of(reading, tasks) if config.encoder != "tokenizers" else []
    fast, reason = fast_encode.choose(config.encoder, coder, sample, executor.workers)
    if fast and config.executor == "processes":
        # gigatoken and Arrow release Python's lock, so threads can share one cache and no process need start.
        executor = Executor(_threads.run, executor.workers)
    noted = (replace(task, payload=note(coder.hash, starts[task.index] if starts else 0)) for task in tasks())
    task = EncodeTask(config, out / "tokenizer.json", coder.hash, cuts, fast)
    pipeline = ShardPipeline(task, reading, out / shuffle.RUNS if config.shuffle else out, compression=None)
    totals = pipeline.run(noted, executor, context)
    metrics = figures(totals.stats, coder) | {"encoder": "gigatoken" if fast else "tokenizers", "why": reason}
    if totals.counts.kept and not metrics["train"]["tokens"]:
        raise DataError("the training split is empty", "give more documents, or lower --val and --test")
    if config.shuffle:
        totals.shards = ShuffleMerge(out, Finish.of(coder)).run(totals.shards, SPLITS, executor, context)
    return StageResult(totals, metrics, coder.hash, compression=None)


def note(tokenizer_hash: str, first_character: int) -> bytes:
    """Write down what a task's encoding depends on besides its documents."""
    return json.dumps({"tokenizer": tokenizer_hash, "first_character": first_character}).encode()


def read_tokenizer(path: str, split_pattern: str | None) -> str:
    """Read a tokenizer as a tokenizer.json. Raises UsageError (2) if there is none, DataError (3) if it is damaged."""
    path = plain_path(path)
    is_folder = file_info(path).type == pafs.FileType.Directory
    folder = path if is_folder else parent(path)
    present = list_folder(folder)
    names = importing.find(list(present)) if is_folder else importing.partners(base_name(path))
    missing = [name for name in names if name not in present]
    if missing or not names:
        raise UsageError(
            f"no such tokenizer: {join(folder, missing[0]) if missing else path}",
            f"give a file or a folder with one of: {importing.FORMATS}",
        )
    data = {name: read_if_exists(present[name]) or b"" for name in names}
    return importing.to_json(data, split_pattern)


def sample_of(reading: ReadOptions, tasks: Callable[[], Iterator[ShardTask]]) -> list[str]:
    """Take beginnings of documents from the first, the middle and the last shard task."""
    last = sum(1 for _ in tasks()) - 1
    texts: list[str] = []
    for task in tasks():
        if task.index not in (0, last // 2, last):
            continue
        column = read_task(task, reading)[0]["text"]
        rows = np.arange(0, len(column), max(1, len(column) * SAMPLE_CHARACTERS // SAMPLE_BYTES))
        texts += pc.utf8_slice_codeunits(column.take(token_rows.numbers(rows)), 0, SAMPLE_CHARACTERS).to_pylist()
    return texts


def characters(reading: ReadOptions, task: ShardTask) -> int:
    """Count one task's characters, in a worker."""
    return int(pc.sum(pc.utf8_length(read_task(task, reading)[0]["text"])).as_py() or 0)


def measure(
    config: Tokenize, reading: ReadOptions, tasks: Callable[[], Iterator[ShardTask]], executor: Executor
) -> tuple[list[int], tuple[int, int]]:
    """Give each task's first character and the positions where val and test begin."""
    ends = np.cumsum([0, *executor.map(partial(characters, reading), tasks())]).tolist()
    total = ends[-1]
    return ends[:-1], (int(total * (1 - config.val - config.test)), int(total * (1 - config.test)))


def text_size(inputs: Inputs) -> int | None:
    """Return the bytes of text to be read: exactly for dataset folders, about for other files, None for a stream."""
    if inputs.is_stream:
        return None
    known = sum(found.counts.bytes_kept for found in inputs.manifests.values())
    return known + sum(file.size for file in inputs.files)


def train(
    config: Tokenize, reading: ReadOptions, tasks: Callable[[], Iterator[ShardTask]], starts: list[int] | None,
    cuts: tuple[int, int], size: int | None, context: Context,
) -> str:  # fmt: skip
    """Train a tokenizer on the training split; on a sample by text hash where the input is larger than train_bytes.

    Of each document the first train_chars_per_doc characters are used, so that a few long ones do not decide. Symbols
    are collected from all splits and whole documents: one seen only in val must still have a name.
    """
    fraction = min(1.0, config.train_bytes / size) if size else 1.0
    longest = config.train_chars_per_doc or None
    read_bytes = 0

    def texts() -> Iterator[str]:
        nonlocal read_bytes
        for task in tasks():
            table = read_task(task, reading)[0]
            column = table["text"]
            if config.algorithm != "chars":
                column = divide(table, config, starts[task.index] if starts else 0, cuts).of("train")
            for text in column.to_pylist():
                if fraction < 1.0 and seeds.unit_hash("tokenizer", text.encode()) >= fraction:
                    continue
                taken = text if config.algorithm == "chars" else text[:longest]
                read_bytes += len(taken)
                yield taken
            context.progress(task.index + 1, None, "shards read for the tokenizer")
            context.stop.check("stopped")

    pattern = config.split_pattern or "gpt2"
    made = training.train(texts(), config.algorithm, config.vocab_size, split_pattern=pattern)
    if config.algorithm == "bpe" and read_bytes > MANY_TRAINING_BYTES:
        context.warn(
            f"the tokenizer was trained on {format_bytes(read_bytes)}: its counts of pairs may have overflowed "
            "(32 bits); lower train_bytes"
        )
    return made


def figures(parts: list[dict[str, Any]], coder: Tokenizer) -> dict[str, Any]:
    """Sum the splits' documents, tokens and bytes; tell compression, fertility and how much of the vocabulary is used.

    bytes_per_token counts end-of-text, tokens_per_word (words between white space, all splits) does not.
    """
    total: dict[str, Any] = {name: {"documents": 0, "tokens": 0, "bytes": 0} for name in SPLITS}
    seen = np.zeros(coder.vocab_size, np.bool_)
    for part in parts:
        for name in SPLITS:
            for what, value in part.get(name, {}).items():
                total[name][what] += value
        marks = np.frombuffer(base64.b64decode(part.get("seen", "")), np.uint8)
        seen[: len(marks) * 8] |= np.unpackbits(marks, count=coder.vocab_size).astype(np.bool_) if len(marks) else False
    words, tokens = (sum(part[what] for part in parts) for what in ("words", "text_tokens"))
    train_part: dict[str, int] = total["train"]
    return total | {
        "vocab_size": coder.vocab_size,
        "tokenizer": coder.hash,
        "bytes_per_token": round(train_part["bytes"] / train_part["tokens"], 4) if train_part["tokens"] else None,
        "tokens_per_word": round(tokens / words, 4) if words else None,
        "vocabulary_used": round(float(seen.mean()), 4),
    }


def table_of(metrics: dict[str, Any]) -> Table:
    """Show the splits, and what the tokenizer makes of the text."""
    rows = [
        (name, f"{metrics[name]['documents']:,}", f"{metrics[name]['tokens']:,}", format_bytes(metrics[name]["bytes"]))
        for name in SPLITS
    ]
    rows.append(("vocabulary", "", f"{metrics['vocab_size']:,}", f"{metrics['bytes_per_token']} B/token"))
    rows.append(("used in train", "", f"{metrics['vocabulary_used']:.1%}", f"{metrics['tokens_per_word']} tokens/word"))
    return Table("tokenize", ("", "documents", "tokens", "text"), tuple(rows))
