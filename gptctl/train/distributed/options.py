"""How the processes of a training run share the work: config keys of pretrain and finetune. Needs no torch."""

from __future__ import annotations

from typing import Literal

from gptctl.core.config import Settings, Values, key

Parallel = Literal["auto", "ddp", "fsdp", "tp"]
PARALLEL_HELP = "Each process holds the model (ddp), rows (fsdp) or heads (tp) of it; auto: ddp if it fits, else fsdp."


class Placement(Settings):
    """Where a model's parts are, and what happens when a process is lost. It changes results by rounding at most."""

    tensor_parallel: int = key(
        0, "With tp, processes that share each block; 0 takes all of a machine, others form groups.", ge=0, runtime=True
    )
    shard_within_node: bool = key(
        False, "With fsdp, a whole copy on each machine: less traffic between them, more memory.", runtime=True
    )
    restarts: int = key(
        3, "Times that all processes start again from the last checkpoint when one dies or falls silent.", ge=0,
        runtime=True,
    )  # fmt: skip
    train_timeout: float = key(
        600.0, "Seconds after which a process that gives no sign of life, or stands still, counts as lost.", gt=0,
        runtime=True,
    )  # fmt: skip
    compile: Literal["auto", "on", "off"] = key("auto", "Compile the blocks with torch.compile; auto: on CUDA.")

    def placed(self) -> Values:
        """Return the fields of a TrainJob that these keys set."""
        return {
            "tp_size": self.tensor_parallel,
            "hybrid_shard": self.shard_within_node,
            "max_restarts": self.restarts,
            "heartbeat_timeout": self.train_timeout,
            "compile": self.compile,
        }
