"""What a model was trained on, a part at a time: documents of any input, or the train split of a folder of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa

from gptctl.io import manifest, shards
from gptctl.io.inputs import Inputs, read_task
from gptctl.io.manifest import Shard
from gptctl.io.records import ReadOptions, Task
from gptctl.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class TokenShard:
    """One shard of tokens, which are decoded to be read."""

    folder: str
    shard: Shard


Part: TypeAlias = Task | TokenShard


def parts(path: str, reading: ReadOptions) -> list[Part]:
    """Cut training data into parts. Raises UsageError (2) for a missing path, DataError (3) for anything unreadable."""
    folder = Path(path)
    if folder.is_dir() and manifest.is_ours(folder) and (found := manifest.read(folder)).kind == "tokens":
        return [TokenShard(path, shard) for shard in found.of_split("train")]
    return list(Inputs((path,), reading).tasks())


def read(part: Part, reading: ReadOptions) -> tuple[list[str], pa.LargeStringArray]:
    """Give the ids and texts of a part's documents."""
    if isinstance(part, Task):
        table, _ = read_task(part, reading)
        return table["id"].to_pylist(), table["text"].combine_chunks()
    table = shards.table_from(manifest.read_shard(Path(part.folder), part.shard))
    coder = tokenizer_of(part.folder)
    texts = [coder.decode(tokens, special=False) for tokens in table["tokens"].to_pylist()]
    return table["doc_id"].to_pylist(), pa.array(texts, pa.large_string())


@lru_cache(maxsize=1)
def tokenizer_of(folder: str) -> Tokenizer:
    """Read a folder's tokenizer, once a process."""
    return Tokenizer.from_json((Path(folder) / "tokenizer.json").read_text(encoding="utf-8"))
