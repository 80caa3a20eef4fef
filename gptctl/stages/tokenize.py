"""Train or load a tokenizer and turn documents into token shards, divided into train, val and test."""

from __future__ import annotations

import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from gptctl.core import atomic
from gptctl.core.config import ReadingOptions, WorkerOptions, argument, output
from gptctl.core.context import Context
from gptctl.core.errors import DataError, UsageError
from gptctl.core.summary import Summary
from gptctl.executors import Executor, _threads, load_executor
from gptctl.io.dataset.shard_format import MAPPED
from gptctl.io.input.blocks import ReadOptions
from gptctl.io.input.inputs import Inputs
from gptctl.io.input.text_columns import check_column_options
from gptctl.io.token_files import TokenFiles
from gptctl.pipeline import preview, shuffle
from gptctl.pipeline.dataset_output import StageResult, open_dataset
from gptctl.pipeline.shard_pipeline import ShardPipeline
from gptctl.pipeline.shuffle import ShuffleMerge
from gptctl.text.tokenization import import_task, metrics, splits
from gptctl.text.tokenization.encode_task import EncodeTask, TokenSchema, task_note
from gptctl.text.tokenization.gigatoken_encoder import choose_encoder
from gptctl.text.tokenization.options import TokenizeOptions
from gptctl.text.tokenization.positions import Positions
from gptctl.text.tokenization.splits import SplitRule
from gptctl.text.tokenization.training_texts import TrainingTexts, sample_texts, train_for
from gptctl.text.tokenizer import Tokenizer

EXAMPLES = (
    "gptctl tokenize unique -o tokens --vocab-size 4096",
    "gptctl tokenize corpus.txt -o chars --algorithm chars --val 0.1 --test 0 --set split.by=position",
    "gptctl tokenize unique -o again --tokenizer tokens/tokenizer.json --shuffle",
)
BYTES = 256
CHECKED_TEXTS = 200  # of each shard task, that a dry run encodes with a given tokenizer


class Tokenize(TokenizeOptions, ReadingOptions, WorkerOptions):
    """Tokenize documents into shards that training maps into memory.

    Trains a byte-level BPE on the training split, unless --tokenizer names a tokenizer: a tokenizer.json, vocab.json
    with merges.txt, a *.tiktoken file, or a folder with one of these. Text that spells the end-of-text token stays
    text. Writes OUT/shards/train, val and test, and OUT/tokenizer.json.
    """

    inputs: tuple[str, ...] = argument(
        ..., "INPUT...", "Files, folders, globs, URIs, a dataset folder, or - for a pipe."
    )
    out: str = output(..., "Folder or URI to write.")


def check(config: Tokenize) -> None:
    """Raise UsageError (2) for settings that cannot work."""
    if config.out == "-":
        raise UsageError("tokenize writes three splits and cannot write to a pipe", "name a folder with -o")
    if config.algorithm == "bpe" and not config.tokenizer and config.vocab_size <= BYTES:
        raise UsageError(
            f"a byte-level BPE of {config.vocab_size} tokens has no room for {BYTES} bytes and end-of-text",
            f"use --vocab-size {BYTES + 1} or more, or --algorithm words",
        )
    if config.val + config.test >= 1:
        raise UsageError(
            f"--val {config.val} and --test {config.test} leave nothing to train on", "their sum must be below 1"
        )


def open_inputs(config: Tokenize, given: str | None) -> Inputs:
    """Open the inputs. Raises UsageError (2) for shares or undivided inputs beside one that is divided already."""
    if files := import_task.open_token_files(config, config.inputs, given):
        return files
    inputs = Inputs(config.inputs, ReadOptions.from_config(config), keeps_splits=True)
    check_column_options(inputs)
    if not inputs.is_divided:
        return inputs
    if unused := sorted(config.model_fields_set & {"val", "test", "split"}):
        raise UsageError(
            f"{unused[0]} has no effect: INPUT is divided into train, val and test already", "leave it out"
        )
    if len(inputs.sources) > 1:
        raise UsageError("an INPUT that is divided already cannot be combined with others", "name it alone")
    return inputs


def plan(config: Tokenize, context: Context) -> Summary:
    """Check the command and the given tokenizer, and return what would be done."""
    check(config)
    given = import_task.load_given(config, config.inputs)
    tokenizer = Tokenizer.from_json(given) if given else None
    inputs = open_inputs(config, given)
    preview.check_output(config.out, config, context, inputs, {"tokenizer": tokenizer.hash} if tokenizer else {})
    has_text = has_training = False
    if isinstance(inputs, TokenFiles) and tokenizer:
        import_task.check_sample(inputs, tokenizer)
    for table in () if isinstance(inputs, TokenFiles) else preview.read_checked(inputs, config, context):
        if tokenizer:
            tokenizer.encode_batch(table["text"].slice(0, CHECKED_TEXTS).to_pylist())
        if config.split.by != "position" and len(table) and not has_training and not inputs.is_divided:
            pieces = SplitRule(config.split.by, config.val, config.test, config.split.salt).divide(table, 0)
            has_text, has_training = True, bool((pieces.split == 0).any())
    if has_text and not has_training:
        raise without_training_split()
    facts: dict[str, Any] = {
        "inputs": len(inputs.sources),
        "input_bytes": inputs.total_bytes(),
        "workers": config.worker_count(),
    }
    facts["tokenizer"] = config.tokenizer or ("beside INPUT" if given else f"{config.algorithm}, trained here")
    return Summary("tokenize", "planned", (config.out,), plan=facts)


def run(config: Tokenize, context: Context | None = None) -> Summary:
    """Tokenize the inputs into a folder of token shards."""
    context = context or Context()
    check(config)
    given = import_task.load_given(config, config.inputs)
    inputs, also = open_inputs(config, given), partial(import_task.fingerprints, config, config.inputs)
    with open_dataset(config.out, "tokens", config, context, inputs, also) as dataset:
        if not dataset.up_to_date:
            assert dataset.folder is not None
            dataset.commit(write_tokens(config, context, inputs, dataset.folder, given))
    summary = dataset.summary
    shares = {} if inputs.is_divided else {"val": config.val, "test": config.test}
    for line in metrics.warn_of_splits(summary.metrics, shares):
        context.warn(line)
    asked = config.vocab_size if given is None and config.algorithm in ("bpe", "words") else None
    if asked:
        metrics.suggest_vocab_size(asked, summary.metrics["train"]["bytes"], context)
    by_cluster = config.split.by == "cluster" and any(shares.values())
    for line in metrics.describe_missing(summary.metrics, by_cluster, asked):
        context.info(line)
    follow = f"gptctl pretrain {shlex.quote(config.out)} -o run --max-minutes 10"
    return replace(summary, tables=(metrics.table(summary.metrics),)).followed_by(follow)


def write_tokens(config: Tokenize, context: Context, inputs: Inputs, out: Path, given: str | None) -> StageResult:
    """Train a tokenizer unless a tokenizer.json is given, choose the encoder, and write the shards."""
    options, executor = ReadOptions.from_config(config), load_executor(config)
    if isinstance(inputs, TokenFiles) and given:
        return import_task.import_tokens(inputs, given, out, executor, context)
    tasks = inputs.repeatable_tasks(out / "work", config.limit)
    rule, positions = SplitRule(config.split.by, config.val, config.test, config.split.salt), Positions()
    if config.split.by == "position":
        positions = Positions.measure(options, tasks, executor)
        rule = replace(rule, cuts=positions.cuts(config.val, config.test))
    if given is None:
        size = text_size(inputs)
        share = min(1.0, config.train_bytes / size) if size else 1.0
        max_chars, is_chars = config.train_chars_per_doc or None, config.algorithm == "chars"
        given = train_for(config, TrainingTexts(options, tasks, rule, positions, share, max_chars, is_chars, context))
    tokenizer = Tokenizer.from_json(given)
    atomic.write_text(out / "tokenizer.json", given)
    sample = sample_texts(options, tasks) if config.encoder != "tokenizers" else []
    fast, reason = choose_encoder(config.encoder, tokenizer, sample, executor.workers)
    if fast and config.executor == "processes":
        # gigatoken and Arrow release Python's lock: threads share one cache, and no fork server is needed.
        executor = Executor(_threads.run, executor.workers)
    with_payload = (
        replace(task, payload=task_note(tokenizer.hash, positions.first_character(task.index))) for task in tasks()
    )
    shuffle_seed = config.seed if config.shuffle else None
    encode = EncodeTask(out / "tokenizer.json", tokenizer.hash, rule, shuffle_seed, fast)
    pipeline = ShardPipeline(encode, options, out / shuffle.RUNS if config.shuffle else out, MAPPED)
    totals = pipeline.run(with_payload, executor, context)
    used = {"encoder": "gigatoken" if fast else "tokenizers", "why": reason}
    found = metrics.combine(totals.stats, tokenizer) | used
    if totals.counts.kept and not found["train"]["tokens"]:
        raise without_training_split()
    if config.shuffle:
        schema = TokenSchema.of(tokenizer)
        totals.shards = ShuffleMerge(out, schema).run(totals.shards, splits.NAMES, executor, context)
    return StageResult(totals, found, tokenizer.hash)


def without_training_split() -> DataError:
    """Return the error for an input whose documents are all in val or test."""
    return DataError("the training split is empty", "use more documents, or lower --val and --test")


def text_size(inputs: Inputs) -> int | None:
    """Return the bytes of text to be read: exactly for dataset folders, about for other files, None for a stream."""
    if inputs.is_stream:
        return None
    known = sum(found.counts.bytes_kept for found in inputs.manifests.values())
    return known + sum(file.size for file in inputs.files)
