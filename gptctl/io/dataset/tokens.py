"""Datasets of tokens, memory-mapped as flat arrays.

A dataset is opened without reading its shards: the manifest says how many tokens each of them has. A process verifies
a shard when it first reads it, and keeps only some shards mapped.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
from numpy.typing import NDArray

from gptctl.core.errors import DataError, UsageError
from gptctl.core.regular_files import read_small
from gptctl.core.run_record import MANIFEST
from gptctl.core.written_files import FileState, check_states, states_of
from gptctl.io.dataset import manifest, shards
from gptctl.io.dataset.manifest import Manifest, Shard
from gptctl.io.files import plain_path
from gptctl.io.object_storage.address import file_info, is_uri
from gptctl.io.object_storage.fetch_tokens import fetch_tokens
from gptctl.io.recognize import recognize, wrong_content

# Shards of a split that are mapped at the same time. Linux allows a process 65,530 maps, and a run may read several
# splits.
MAX_MAPPED = 2048
TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class Tokens:
    """A folder of token shards, with its tokenizer, and the states that its files had when it was opened."""

    folder: Path
    manifest: Manifest
    tokenizer_json: str
    states: Mapping[Path, FileState]

    @property
    def vocab_size(self) -> int:
        """Return the size of the tokenizer's vocabulary."""
        return int(self.manifest.metrics["vocab_size"])

    def count(self, split: str) -> int:
        """Return the number of tokens in a split."""
        return int(self.manifest.metrics[split]["tokens"])

    def documents(self, split: str) -> int:
        """Return the number of documents in a split."""
        return int(self.manifest.metrics[split]["documents"])

    def fingerprint(self) -> str:
        """Return the hash of the tokens. Raises DataError (3) if a file is damaged or changed after it was opened."""
        check_states(self.states)
        return manifest.current_content(self.folder)


def open_tokens(path: str) -> Tokens:
    """Open what `gptctl tokenize` wrote, and check the sizes of its shards. Object storage is downloaded first.

    Raises UsageError (2) if it does not exist, DataError (3) if it is damaged or something else.
    """
    path = plain_path(path)
    info = file_info(path)
    if info.type == pafs.FileType.NotFound:
        raise UsageError(f"no such folder: {path}", "TOKENS is what 'gptctl tokenize ... -o TOKENS' wrote")
    content = recognize(path)
    found = content.manifest
    if content.kind != "tokens" or found is None:
        raise wrong_content(content, "tokens")
    folder = fetch_tokens(path, found) if is_uri(path) else Path(path)
    for shard in found.shards:
        if not shards.has_size(folder, shard):
            manifest.read_shard(folder, shard)  # which says what is wrong
    states = states_of(folder / name for name in (MANIFEST, TOKENIZER, *sorted(found.paths)))
    try:
        tokenizer_json = read_small(folder / TOKENIZER).decode()
    except (FileNotFoundError, UnicodeDecodeError) as error:
        what = f"{folder / TOKENIZER} is missing or damaged"
        raise DataError(what, f"make it again: gptctl {found.stage} ... -o {path} --force") from error
    return Tokens(folder, found, tokenizer_json, states)


class MappedShards:
    """The token arrays of a split's shards. Those read last stay mapped, at most `limit` of them.

    Several threads may read. Raises DataError (3) when a damaged shard is read for the first time.
    """

    def __init__(self, folder: Path, limit: int = MAX_MAPPED) -> None:
        self.folder = folder
        self.limit = limit
        self.arrays: OrderedDict[str, list[NDArray[Any]]] = OrderedDict()  # by path, the one read last at the end
        self.verified: set[str] = set()
        self.lock = Lock()

    def read(self, shard: Shard) -> list[NDArray[Any]]:
        """Return a shard's tokens, as arrays that are views of the file and follow each other."""
        with self.lock:
            found = self.arrays.pop(shard.path, None)
            if found is None:
                read = shards.map_shard if shard.path in self.verified else shards.map_verified
                found = [chunk.flatten().to_numpy() for chunk in read(self.folder, shard)["tokens"].chunks]
                self.verified.add(shard.path)
            self.arrays[shard.path] = found
            if len(self.arrays) > self.limit:
                self.arrays.popitem(last=False)
            return found


@dataclass(frozen=True)
class TokenPart:
    """The tokens of one shard, which is mapped when a slice is read."""

    shard: Shard
    mapped: MappedShards

    def __len__(self) -> int:
        return self.shard.tokens

    def __getitem__(self, chosen: slice) -> NDArray[Any]:
        """Return consecutive tokens: a view of the file, or a copy of those of several Arrow batches."""
        start, stop, _ = chosen.indices(len(self))
        pieces = []
        for array in self.mapped.read(self.shard):
            if stop > 0 and start < len(array):
                pieces.append(array[max(0, start) : stop])
            start, stop = start - len(array), stop - len(array)
        return pieces[0] if len(pieces) == 1 else np.concatenate([np.empty(0, np.uint16), *pieces])


def flat_parts(folder: Path, split: str) -> list[TokenPart]:
    """Return a split's tokens, one part per shard, in order. Each document ends with end-of-text. No shard is read."""
    mapped = MappedShards(folder)
    return [TokenPart(with_tokens(folder, shard), mapped) for shard in manifest.read(folder).of_split(split)]


def with_tokens(folder: Path, shard: Shard) -> Shard:
    """Return a shard with its number of tokens, which the manifests of earlier versions leave out."""
    if shard.tokens or not shard.rows:
        return shard
    return replace(shard, tokens=int(lengths_in(folder, shard).sum()))


def document_lengths(folder: Path, split: str) -> NDArray[np.int64]:
    """Return the number of tokens of each document of a split, end-of-text included, in the order of `flat_parts`.

    Only the offsets of the lists are read, 8 B per document. Raises DataError (3) if they are damaged.
    """
    found = [lengths_in(folder, shard) for shard in manifest.read(folder).of_split(split)]
    return np.concatenate([np.empty(0, np.int64), *found])


def lengths_in(folder: Path, shard: Shard) -> NDArray[np.int64]:
    """Return the number of tokens of each document of a shard, which need not be verified."""
    try:
        chunks = shards.map_shard(folder, shard)["tokens"].chunks
    except (OSError, KeyError, ValueError, pa.ArrowException):
        chunks = shards.map_verified(folder, shard)["tokens"].chunks  # says what is wrong
    lengths = np.concatenate([np.empty(0, np.int64), *(np.diff(chunk.offsets.to_numpy()) for chunk in chunks)])
    if (lengths < 0).any() or (shard.tokens and lengths.sum() != shard.tokens):
        manifest.read_shard(folder, shard)  # likewise
    return lengths
