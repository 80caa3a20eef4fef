"""Token shards as flat, memory-mapped arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from gptctl.core.errors import DataError, UsageError
from gptctl.io import manifest, shards
from gptctl.io.manifest import Manifest


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
    """Open what `gptctl tokenize` wrote. UsageError (2) if absent, DataError (3) if it is anything else or damaged."""
    folder = Path(path)
    if not folder.exists():
        raise UsageError(f"no such folder: {folder}", "TOKENS is what 'gptctl tokenize ... -o TOKENS' wrote")
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder of tokens", "TOKENS is what 'gptctl tokenize ... -o TOKENS' wrote")
    found = manifest.read(folder)
    if found.kind != "tokens":
        raise DataError(f"{folder} holds {found.kind}, not tokens", f"run: gptctl tokenize {folder} -o tokens")
    for shard in found.shards:
        manifest.read_shard(folder, shard, found.stage)
    return Tokens(folder, found, (folder / "tokenizer.json").read_text(encoding="utf-8"))


def flat_parts(folder: Path, split: str) -> list[NDArray[Any]]:
    """Give a split's tokens as arrays that are views of the files, in order; documents end with end-of-text."""
    parts: list[NDArray[Any]] = []
    for shard in manifest.read(folder).of_split(split):
        parts += [chunk.flatten().to_numpy() for chunk in shards.map_shard(folder, shard)["tokens"].chunks]
    return parts
