"""Training data, one shard at a time: documents of any input, or a folder of tokens and the splits it held out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pyarrow as pa

from gptctl.core.errors import DataError
from gptctl.core.written_files import FileState, file_state
from gptctl.io.dataset import manifest, shards
from gptctl.io.dataset.manifest import Shard
from gptctl.io.dataset.shard_format import read_table
from gptctl.io.input.blocks import ReadOptions, ShardTask
from gptctl.io.input.inputs import Inputs
from gptctl.io.input.read_task import read_task
from gptctl.io.input.text_columns import describe_text_column
from gptctl.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class TokenShard:
    """One shard of a folder of tokens."""

    folder: str
    shard: Shard


TrainingShard: TypeAlias = ShardTask | TokenShard


def training_shards(path: str, reading: ReadOptions) -> list[TrainingShard]:
    """Return the shards of training data. Raises UsageError (2) for a missing path, DataError (3) for bad data."""
    if is_tokens(path):
        return [TokenShard(path, shard) for shard in manifest.read(Path(path)).of_split("train")]
    return list(Inputs((path,), reading).tasks())


def describe_column(path: str, reading: ReadOptions) -> str:
    """Return a sentence on the column that the texts are in, if it is another than that of DATA.

    Raises DataError (3), which names the columns, if there is none.
    """
    return "" if is_tokens(path) else describe_text_column(Inputs((path,), reading), "--leakage")


class ShardTexts(NamedTuple):
    """The documents of a shard, and the number of its unreadable records."""

    ids: list[str]
    texts: pa.LargeStringArray
    unreadable: int = 0


def read_shard(shard: TrainingShard, reading: ReadOptions) -> ShardTexts:
    """Return the ids and texts of a shard's documents; tokens are decoded."""
    if isinstance(shard, ShardTask):
        found = read_task(shard, reading)
        ids, texts = found.documents["id"].to_pylist(), found.documents["text"].combine_chunks()
        return ShardTexts(ids, texts, len(found.unreadable))
    table = read_table(manifest.read_shard(Path(shard.folder), shard.shard), shard.shard.path)
    tokenizer = tokenizer_of(shard.folder)
    texts = [tokenizer.decode(tokens, skip_special_tokens=True) for tokens in table["tokens"].to_pylist()]
    return ShardTexts(table["doc_id"].to_pylist(), pa.array(texts, pa.large_string()))


def tokenizer_of(folder: str) -> Tokenizer:
    """Return a folder's tokenizer, which is read once per process until it changes."""
    path = Path(folder) / "tokenizer.json"
    return read_tokenizer(path, file_state(path))


@lru_cache(maxsize=1)
def read_tokenizer(path: Path, state: FileState) -> Tokenizer:
    """Return the tokenizer of a file that has this state."""
    return Tokenizer.from_json(path.read_text(encoding="utf-8"))


def is_tokens(path: str) -> bool:
    """Return whether a path is an output of gptctl tokenize."""
    folder = Path(path)
    return folder.is_dir() and manifest.is_ours(folder) and manifest.read(folder).kind == "tokens"


def held_out_splits(path: str, limit: int) -> Iterator[tuple[str, pa.Table]]:
    """Yield the name and the documents, as text, of the val and test splits of a folder of tokens.

    Raises DataError (3) if there is no such split, or if the tokens do not decode to the text they were made from.
    """
    tokens_manifest = manifest.read(Path(path))
    splits = [split for split in ("val", "test") if sum(shard.rows for shard in tokens_manifest.of_split(split))]
    if not splits:
        raise DataError(f"{path} has neither a val nor a test split", "tokenize with --val or --test above 0")
    for split in splits:
        table = shards.read_rows(Path(path), tokens_manifest, split, limit or None)
        texts = [tokenizer_of(path).decode(tokens, skip_special_tokens=True) for tokens in table["tokens"].to_pylist()]
        sizes = [len(text.encode()) for text in texts]
        if sizes != table["n_bytes"].to_pylist():
            raise DataError(
                f"the tokens of {path} do not decode to their text", "name the documents themselves as DATA"
            )
        yield split, pa.table({"id": table["doc_id"], "text": pa.array(texts, pa.large_string())})
