"""Turn the documents of token files, which are encoded already, into rows of token shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.core import atomic
from gptctl.core.context import Context
from gptctl.core.errors import DataError, UsageError
from gptctl.core.summary import Counts
from gptctl.executors import Executor
from gptctl.io import token_files
from gptctl.io.dataset.shard_format import MAPPED
from gptctl.io.input.blocks import ReadOptions, ShardTask
from gptctl.io.token_files import TokenFiles, TokenReader
from gptctl.pipeline.dataset_output import StageResult
from gptctl.pipeline.shard_pipeline import ShardPipeline
from gptctl.pipeline.task_results import TaskOutput
from gptctl.text.tokenization import metrics, token_rows
from gptctl.text.tokenization.encode_task import TokenSchema, worker_tokenizer
from gptctl.text.tokenization.load import load_tokenizer_json
from gptctl.text.tokenization.options import TokenizeOptions
from gptctl.text.tokenizer import Tokenizer

# The keys of `tokenize` that have an effect on files of tokens.
WITH_TOKEN_FILES = {
    "inputs", "out", "tokenizer", "split_pattern", "workers", "executor", "ray_address", "plugins",
    "max_bad", "max_bad_records", "encoder",
}  # fmt: skip
# Figures of text, which nobody has read here.
WITHOUT_TEXT = dict.fromkeys(("words", "text_tokens", "characters", "unspaced", "unknown", "without_cluster_id"), 0)


@dataclass(frozen=True)
class ImportTask:
    """Checks the ids of a task, in a worker, and measures the text that they stand for."""

    tokenizer_path: Path
    tokenizer_hash: str

    def __call__(self, task: ShardTask, table: pa.Table) -> TaskOutput:
        """Return the rows of the split. Raises DataError (3) for an id that the tokenizer does not have."""
        tokenizer = worker_tokenizer(self.tokenizer_path, self.tokenizer_hash)
        tokens = table["tokens"].combine_chunks()
        ids, offsets = tokens.values.to_numpy(), tokens.offsets.to_numpy()
        check_ids(ids, tokenizer, task.blocks[0].path)
        lists = pa.LargeListArray.from_arrays(tokens.offsets, pa.array(ids.astype(tokenizer.dtype)))
        sizes = text_sizes(tokenizer, ids, offsets)
        rows = pa.table({"doc_id": table["doc_id"], "tokens": token_rows.to_binary(lists), "n_bytes": sizes})
        figures: dict[str, Any] = dict(WITHOUT_TEXT)
        if len(rows):
            figures[task.split] = metrics.split_figures(rows, tokenizer.dtype.itemsize)
        if task.split == "train":
            figures["seen"] = metrics.pack_bits(token_rows.ids_in_use(lists, tokenizer.vocab_size))
        counts = Counts(documents_in=len(rows), kept=len(rows), bytes_in=int(sizes.sum()), bytes_kept=int(sizes.sum()))
        return TaskOutput({task.split: TokenSchema.of(tokenizer)(rows)} if len(rows) else {}, counts, figures)


def check_ids(ids: NDArray[Any], tokenizer: Tokenizer, path: str) -> None:
    """Raise DataError (3) for an id that the tokenizer does not have."""
    if len(ids) and (largest := int(ids.max())) >= tokenizer.vocab_size:
        raise DataError(
            f"{path} has the id {largest}, and the tokenizer has {tokenizer.vocab_size:,} tokens",
            "name the tokenizer that the file was made with: --tokenizer",
        )


def text_sizes(tokenizer: Tokenizer, ids: NDArray[Any], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the bytes of the text of each document, which is not empty."""
    if not len(ids):
        return np.empty(0, np.int64)
    lengths = tokenizer.byte_lengths
    if lengths is not None:
        return np.add.reduceat(lengths[ids], offsets[:-1])
    texts = (tokenizer.decode(ids[first:last], skip_special_tokens=True) for first, last in pairwise(offsets))
    return np.array([len(text.encode()) for text in texts], np.int64)


def find_tokenizer(arguments: Sequence[str]) -> str | None:
    """Return the tokenizer beside the token files that INPUT names, or None for documents.

    Raises UsageError (2) if there is none.
    """
    files = token_files.find(arguments)
    return token_files.tokenizer_beside(files) if files else None


def load_given(config: TokenizeOptions, inputs: Sequence[str]) -> str | None:
    """Return the tokenizer.json of --tokenizer or, for token files, beside them. None: one is to be trained."""
    path = config.tokenizer or find_tokenizer(inputs)
    return load_tokenizer_json(path, config.split_pattern) if path else None


def fingerprints(config: TokenizeOptions, inputs: Sequence[str]) -> dict[str, str]:
    """Return the hash of the tokenizer that is given, if one is."""
    given = load_given(config, inputs)
    return {"tokenizer": Tokenizer.from_json(given).hash} if given else {}


def open_token_files(config: TokenizeOptions, arguments: Sequence[str], given: str | None) -> TokenFiles | None:
    """Open the token files that INPUT names, or return None for documents.

    Raises UsageError (2) for options of documents, DataError (3) for damaged files.
    """
    files = token_files.find(arguments)
    if not files or given is None:
        return None
    fields = type(config).model_fields
    given_keys = sorted(config.model_fields_set - WITH_TOKEN_FILES)
    if unused := [name for name in given_keys if getattr(config, name) != fields[name].default]:
        raise UsageError(f"{unused[0]} has no effect: {files[0].path} holds token ids, not documents", "leave it out")
    return TokenFiles(files, ReadOptions(), Tokenizer.from_json(given).dtype.itemsize)


def check_sample(inputs: TokenFiles, tokenizer: Tokenizer) -> None:
    """Raise DataError (3) if the beginning of a file has an id that the tokenizer does not have."""
    for opened in inputs.opened:
        check_ids(opened.read(0, token_files.TASK_TOKENS), tokenizer, opened.file.path)


def import_tokens(inputs: TokenFiles, given: str, out: Path, executor: Executor, context: Context) -> StageResult:
    """Write the tokens of files into shards, with their tokenizer."""
    tokenizer = Tokenizer.from_json(given)
    atomic.write_text(out / "tokenizer.json", given)
    task = ImportTask(out / "tokenizer.json", tokenizer.hash)
    reader = TokenReader(inputs.width, tokenizer.end_of_text_id)
    pipeline = ShardPipeline(task, inputs.options, out, MAPPED, read=reader)
    for name in inputs.undivided():
        context.info(f"{name} names no split, so its tokens are train")
    totals = pipeline.run(inputs.tasks(), executor, context)
    return StageResult(totals, metrics.combine(totals.stats, tokenizer), tokenizer.hash)
