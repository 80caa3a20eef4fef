"""Write token shards as the files that nanoGPT's data loader maps: train.bin, val.bin and test.bin, ids of 16 bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gptctl.core import atomic
from gptctl.core.errors import UsageError
from gptctl.io.dataset.manifest import SPLITS, Shard
from gptctl.io.dataset.shards import HashedFile
from gptctl.io.dataset.tokens import Tokens, flat_parts

ID_TYPE = "<u2"
MAX_VOCABULARY = 2**16


def check_width(tokens: Tokens) -> None:
    """Raise UsageError (2) if ids need more than 16 bits."""
    if tokens.vocab_size > MAX_VOCABULARY:
        raise UsageError(
            f"the vocabulary has {tokens.vocab_size:,} tokens, and nanoGPT's ids end at {MAX_VOCABULARY - 1:,}",
            "tokenize with a smaller vocabulary, or train with gptctl pretrain",
        )


def write_bin_files(tokens: Tokens, folder: Path, progress: Callable[[int, int], None]) -> tuple[Shard, ...]:
    """Write a file for each split that has tokens, and the tokenizer, one shard in memory at a time.

    `progress` is called with the number of tokens that are written, and of all.
    """
    check_width(tokens)
    done, total = 0, sum(tokens.count(split) for split in SPLITS)
    written: list[Shard] = []
    for split in SPLITS:
        if not tokens.count(split):
            continue
        with atomic.atomic_file(folder / f"{split}.bin") as file:
            hashed = HashedFile(file)
            for part in flat_parts(tokens.folder, split):
                hashed.write(part[0 : len(part)].astype(ID_TYPE).tobytes())
                done += len(part)
                progress(done, total)
        count = tokens.count(split)
        written.append(Shard(f"{split}.bin", tokens.documents(split), hashed.size, hashed.digest.hexdigest(), count))
    atomic.write_text(folder / "tokenizer.json", tokens.tokenizer_json)
    return tuple(written)
