"""The layout of ranks: the size of each dimension of the device mesh, by name. Needs no torch."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

from gptctl.core.errors import UsageError
from gptctl.model.config import ModelConfig


@dataclass(frozen=True)
class ParallelDims:
    """How many ranks each kind of parallelism takes. The world size is the product of all sizes.

    The names are those of torchtitan. Pipeline and context parallelism (pp, cp) have no strategy yet: both are 1.
    """

    dp_replicate: int = 1  # copies of the model that read different samples
    dp_shard: int = 1  # ranks over which the rows of each parameter are sharded; they read different samples too
    tp: int = 1  # ranks that split each block's matrices and read the same samples
    pp: int = 1
    cp: int = 1

    @classmethod
    def for_strategy(
        cls, strategy: str, world_size: int, *, nodes: int = 1, tp_size: int = 0, hybrid_shard: bool = False
    ) -> ParallelDims:
        """Return the sizes that a strategy (a file in gptctl/train/strategies) uses for a world of ranks.

        A `tp_size` of 0 takes all ranks of a node. `hybrid_shard` shards within each node and replicates across nodes.
        Raises UsageError (2) if the ranks of a node cannot be split into groups of `tp_size`.
        """
        if strategy == "fsdp":
            copies = nodes if hybrid_shard else 1
            return cls(dp_replicate=copies, dp_shard=world_size // copies)
        if strategy == "tp":
            size = tp_size or world_size // nodes
            if world_size // nodes % size:
                raise UsageError(
                    f"{world_size // nodes} processes per machine cannot be split into groups of tp_size {size}",
                    "set tp_size to a divisor of the processes per machine",
                )
            return cls(dp_shard=world_size // size, tp=size)
        return cls(dp_replicate=world_size)

    @property
    def world_size(self) -> int:
        """Count all ranks."""
        return math.prod(astuple(self))

    @property
    def dp_size(self) -> int:
        """Count the groups of ranks that read different samples."""
        return self.dp_replicate * self.dp_shard

    @property
    def is_replicated(self) -> bool:
        """Return whether every rank holds the whole model."""
        return self.world_size == self.dp_replicate


def check_divisible(config: ModelConfig, tp_size: int) -> None:
    """Raise UsageError (2) if heads or hidden units cannot be split into `tp_size` equal parts."""
    counts = {
        "heads": config.heads,
        "kv_heads": config.resolved_kv_heads,
        "intermediate_size": config.intermediate_size,
    }
    if config.qk_norm and config.qk_norm_over == "width":
        raise UsageError("tp does not compute model.qk_norm_over = width, which needs all heads", "use --parallel fsdp")
    for name, count in counts.items():
        if count % tp_size:
            raise UsageError(f"model.{name} {count} is not divisible by tp_size {tp_size}", "choose a divisor of it")
    if -(-config.padded_vocab_size // tp_size) * (tp_size - 1) >= config.padded_vocab_size:  # the last has no row
        raise UsageError(f"a vocabulary of {config.vocab_size} is too small for tp_size {tp_size}", "use a smaller one")
