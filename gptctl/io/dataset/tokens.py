"""Datasets of tokens, memory-mapped as flat arrays."""

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
from gptctl.io.object_storage.fetch_tokens import fetch_tokens


@dataclass(frozen=True)
class Tokens:
    """A folder of token shards, with its tokenizer."""

    folder: Path
    manifest: Manifest
    tokenizer_json: str

    @property
    def vocab_size(self) -> int:
        """Return the size of the tokenizer's vocabulary."""
        return int(self.manifest.metrics["vocab_size"])

    def count(self, split: str) -> int:
        """Return the number of tokens in a split."""
        return int(self.manifest.metrics[split]["tokens"])


def open_tokens(path: str) -> Tokens:
    """Open what `gptctl tokenize` wrote, and verify every shard. A dataset in object storage is downloaded first.

    Raises UsageError (2) if it does not exist, DataError (3) if it is damaged or something else.
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
    """Return a split's tokens in order, as arrays that are views of the files. Each document ends with end-of-text."""
    return [chunk.flatten().to_numpy() for chunk in chunks(folder, split)]


def document_lengths(folder: Path, split: str) -> NDArray[np.int64]:
    """Return the number of tokens of each document of a split, end-of-text included, in the order of `flat_parts`.

    Only the offsets of the lists are read, 8 B per document.
    """
    lengths = [np.diff(chunk.offsets.to_numpy()) for chunk in chunks(folder, split)]
    return np.concatenate([np.empty(0, np.int64), *lengths])


def chunks(folder: Path, split: str) -> Iterator[pa.LargeListArray]:
    """Yield the token lists of a split's shards, memory-mapped, in order."""
    for shard in manifest.read(folder).of_split(split):
        yield from shards.map_shard(folder, shard)["tokens"].chunks
