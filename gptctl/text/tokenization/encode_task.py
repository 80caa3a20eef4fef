"""Encoding the documents of a shard task into rows of tokens, divided into splits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gptctl.core.summary import Counts
from gptctl.io.dataset.schema import text_bytes, with_kind
from gptctl.io.input.blocks import ShardTask
from gptctl.pipeline import shuffle
from gptctl.pipeline.task_results import TaskOutput
from gptctl.text import arrow_arrays
from gptctl.text.tokenization import metrics, splits, token_rows
from gptctl.text.tokenization.gigatoken_encoder import GigatokenEncoder
from gptctl.text.tokenization.splits import Pieces, SplitRule
from gptctl.text.tokenizer import Tokenizer


def task_note(tokenizer_hash: str, first_character: int) -> bytes:
    """Return what the encoding of a task depends on besides its documents."""
    return json.dumps({"tokenizer": tokenizer_hash, "first_character": first_character}).encode()


@dataclass(frozen=True)
class EncodeTask:
    """Encodes the documents of a task, in a worker.

    With `shuffle_seed`, rows are ordered by a hash of the seed and the id. `fast` is gigatoken's encoder, or None.
    """

    tokenizer_path: Path
    tokenizer_hash: str
    rule: SplitRule
    shuffle_seed: int | None
    fast: GigatokenEncoder | None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out gigatoken's encoder, which holds a lock and a cache."""
        return vars(self) | {"fast": self.fast is not None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Load gigatoken's encoder in the process where the task arrives, for one thread."""
        tokenizer = worker_tokenizer(state["tokenizer_path"], state["tokenizer_hash"])
        vars(self).update(state | {"fast": GigatokenEncoder(tokenizer) if state["fast"] else None})

    def __call__(self, task: ShardTask, table: pa.Table) -> TaskOutput:
        """Return a table of tokens for each split that has documents, and figures for the metrics."""
        tokenizer = self.fast.tokenizer if self.fast else worker_tokenizer(self.tokenizer_path, self.tokenizer_hash)
        pieces = self.rule.divide(table, json.loads(task.payload)["first_character"], task.split)
        tokens = self.fast.encode(pieces.texts) if self.fast else tokenizer.encode_batch(pieces.texts.to_pylist())
        rows = self._rows(tokenizer, pieces, tokens)
        schema = TokenSchema.of(tokenizer)
        tables: dict[str, pa.Table] = {}
        figures: dict[str, Any] = metrics.text_figures(pieces.texts, tokens.values, tokenizer.unknown_id)
        figures["without_cluster_id"] = 0 if "cluster_id" in table.column_names else len(table)
        for name, part in divide(rows, pieces):
            lists = schema(part)
            tables[name] = lists if self.shuffle_seed is None else shuffle.sort(part)
            figures[name] = metrics.split_figures(part, tokenizer.dtype.itemsize)
            if name == "train":
                is_used = token_rows.ids_in_use(lists["tokens"].chunk(0), tokenizer.vocab_size)
                figures["seen"] = metrics.pack_bits(is_used)
        counts = Counts(documents_in=len(table), kept=len(table), bytes_in=text_bytes(table))
        counts.bytes_kept = counts.bytes_in
        return TaskOutput(tables, counts, figures)

    def _rows(self, tokenizer: Tokenizer, pieces: Pieces, tokens: pa.LargeListArray) -> pa.Table:
        """Return a row for each piece: its document, its tokens with end-of-text as bytes, and the size of its text."""
        is_shuffled = self.shuffle_seed is not None
        end_of_text = np.array([tokenizer.end_of_text_id], tokenizer.dtype).tobytes()
        # In another order, the rest of a document that was cut does not follow its beginning: end both.
        ends_document = None if is_shuffled else pieces.ends_document
        rows = pa.table(
            {
                "doc_id": pieces.ids,
                "tokens": token_rows.append(token_rows.to_binary(tokens), ends_document, end_of_text),
                "n_bytes": pc.binary_length(pieces.texts).cast(pa.int64()),
            }
        )
        if self.shuffle_seed is None:
            return rows
        return rows.append_column(shuffle.ORDER, shuffle.hashes(pieces.ids, self.shuffle_seed))


def divide(rows: pa.Table, pieces: Pieces) -> Iterator[tuple[str, pa.Table]]:
    """Yield the name and the rows of each split that has any."""
    for number, name in enumerate(splits.NAMES):
        part = rows.filter(arrow_arrays.mask(pieces.split == number))
        if len(part):
            yield name, part


@dataclass(frozen=True)
class TokenSchema:
    """Gives rows their final form: tokens as lists, and facts about the tokenizer in the schema's metadata."""

    tokenizer_hash: str
    vocab_size: int
    end_of_text_id: int
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> TokenSchema:
        """Return the schema for a tokenizer."""
        return cls(tokenizer.hash, tokenizer.vocab_size, tokenizer.end_of_text_id, tokenizer.dtype)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Return a table of kind "tokens"."""
        lists = token_rows.to_lists(arrow_arrays.combine(rows["tokens"]), self.dtype)
        table = pa.table({"doc_id": rows["doc_id"], "tokens": lists, "n_bytes": rows["n_bytes"]})
        facts = {
            "tokenizer": self.tokenizer_hash,
            "vocab_size": str(self.vocab_size),
            "end_of_text_id": str(self.end_of_text_id),
        }
        return table.replace_schema_metadata(with_kind(table.schema, "tokens", **facts).metadata)


@lru_cache(maxsize=1)
def worker_tokenizer(path: Path, tokenizer_hash: str) -> Tokenizer:
    """Read the tokenizer, once per worker. The hash distinguishes tokenizers at the same path."""
    return Tokenizer.from_json(path.read_text(encoding="utf-8"))
