"""Token shards as flat, memory-mapped arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
from numpy.typing import NDArray

from gptctl.core.errors import DataError, UsageError
from gptctl.io.dataset import manifest, shards
from gptctl.io.dataset.manifest import Manifest
from gptctl.io.files import plain_path
from gptctl.io.object_storage.address import file_info, is_uri
from gptctl.io.object_storage.local_cache import fetch_tokens


@dataclass(frozen=True)
class Tokens:
    """A folder of token shards and the tokenizer they were made with."""

    folder: Path
    manifest: Manifest
    tokenizer_json: str

    @property
    def vocab_size(self) -> int:
        """Size of the tokenizer's vocabulary."""
        return int(self.manifest.metrics["vocab_size"])

    def count(self, split: str) -> int:
        """Count the tokens of a split."""
        return int(self.manifest.metrics[split]["tokens"])


def open_tokens(path: str) -> Tokens:
    """Open what `gptctl tokenize` wrote. UsageError (2) if absent, DataError (3) if it is anything else or damaged.

    From object storage it is first copied to this machine.
    """
    path = plain_path(path)
    info = file_info(path)
    if info.type == pafs.FileType.NotFound:
        raise UsageError(f"no such folder: {path}", "TOKENS is what 'gptctl tokenize ... -o TOKENS' wrote")
    if info.is_file:
        raise DataError(f"{path} is not a folder of tokens", "TOKENS is what 'gptctl tokenize ... -o TOKENS' wrote")
    found = manifest.read(path)
    if found.kind != "tokens":
        raise DataError(f"{path} holds {found.kind}, not tokens", f"run: gptctl tokenize {path} -o tokens")
    folder = fetch_tokens(path, found) if is_uri(path) else Path(path)
    for shard in found.shards:
        manifest.read_shard(folder, shard)
    try:
        tokenizer_json = (folder / "tokenizer.json").read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError) as error:
        what = f"{folder / 'tokenizer.json'} is missing or damaged"
        raise DataError(what, f"make it again: gptctl {found.stage} ... -o {path} --force") from error
    return Tokens(folder, found, tokenizer_json)


def flat_parts(folder: Path, split: str) -> list[NDArray[Any]]:
    """Return a split's tokens as arrays that are views of the files, in order; documents end with end-of-text."""
    return [chunk.flatten().to_numpy() for chunk in chunks(folder, split)]


def document_lengths(folder: Path, split: str) -> NDArray[np.int64]:
    """Count the tokens of each document of a split, end-of-text included, in the order of `flat_parts`.

    Read from the lists' offsets, 8 B a document; the tokens themselves stay on the disk.
    """
    lengths = [np.diff(chunk.offsets.to_numpy()) for chunk in chunks(folder, split)]
    return np.concatenate([np.empty(0, np.int64), *lengths])


def chunks(folder: Path, split: str) -> Iterator[pa.LargeListArray]:
    """Map a split's shards one after the other and give their lists of tokens."""
    for shard in manifest.read(folder).of_split(split):
        yield from shards.map_shard(folder, shard)["tokens"].chunks
