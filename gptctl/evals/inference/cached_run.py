"""Run requests in blocks, except for those whose outputs are in the cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from gptctl.evals.inference.cache import Block, OutputCache, block_key
from gptctl.evals.tasks import Outputs
from gptctl.infer.request import Request

RunBlocks: TypeAlias = Callable[[Iterable[Block]], Iterator[Outputs]]  # in order, perhaps in several processes

BATCHES_PER_BLOCK = 4  # a kill loses at most this many forward passes of each process


@dataclass(frozen=True)
class InferenceResult:
    """Outputs of all requests; how many requests there were, how many came from the cache, and the model's seconds."""

    outputs: Outputs
    requests: int
    cached: int
    model_seconds: float


def split_blocks(requests: Sequence[Request], batch_size: int) -> list[Block]:
    """Split requests into blocks. The same requests always form the same blocks."""
    size = batch_size * BATCHES_PER_BLOCK
    return [requests[start : start + size] for start in range(0, len(requests), size)]


def run_cached(
    blocks: Sequence[Block],
    identity: Mapping[str, Any],
    run_blocks: RunBlocks,
    cache: OutputCache,
    progress: Callable[[int], None] = lambda done: None,
) -> InferenceResult:
    """Run the blocks that are not in the cache. `identity` describes all that outputs depend on, besides requests."""
    keys = [block_key(identity, block) for block in blocks]
    found = [cache.read(key, len(block)) for key, block in zip(keys, blocks, strict=True)]
    cache.warn_of_damage()
    missing = [number for number, outputs in enumerate(found) if outputs is None]
    total = sum(map(len, blocks))
    cached = total - sum(len(blocks[number]) for number in missing)
    done, started = cached, time.monotonic()
    for number, outputs in zip(missing, run_blocks(blocks[number] for number in missing), strict=True):
        found[number] = outputs
        done += len(blocks[number])
        progress(done)
        cache.write(keys[number], outputs)
    seconds = time.monotonic() - started if missing else 0.0
    if missing:
        cache.evict()
    return InferenceResult(join_outputs([outputs for outputs in found if outputs is not None]), total, cached, seconds)


def join_outputs(blocks: Sequence[Outputs]) -> Outputs:
    """Concatenate the outputs of all blocks."""
    names = blocks[0].keys() if blocks else ()
    return {name: [value for block in blocks for value in block[name]] for name in names}
