"""How the processes of a training run share the work: options of pretrain and finetune. Needs no torch."""

from __future__ import annotations

from typing import Literal

from gptctl.core.config import ProcessOptions, Values, flag, key
from gptctl.train.planning.gpu_specs import GPU_SPECS, Accelerator
from gptctl.train.planning.plan_run import Arrangement, PlanOptions


class DistributedOptions(ProcessOptions):
    """Where a model is trained, and what happens when a process is lost. They change results by rounding at most."""

    gpus: int = flag(
        0, "GPUs to use on each machine, one process each.", metavar="N", panel="Devices", ge=0, runtime=True
    )
    nodes: int = flag(
        1, "Machines. Start the same command on each, with one run folder.", metavar="N", panel="Devices", ge=1,
        runtime=True,
    )  # fmt: skip
    rdzv_endpoint: str = flag(
        "", "Rendezvous: a free port on one of the machines.", metavar="HOST:PORT", panel="Devices", runtime=True
    )
    parallel: Literal["auto", "ddp", "fsdp", "tp"] = flag(
        "auto", "Strategy: a copy per process (ddp), sharded weights (fsdp), or tensor parallelism (tp). "
        "auto: ddp if the model fits, else fsdp.", panel="Devices", runtime=True,
    )  # fmt: skip
    tp_size: int = key(
        0, "With tp, processes that share each block; 0 takes all of a machine. Others form groups.", ge=0,
        runtime=True,
    )  # fmt: skip
    hybrid_shard: bool = key(
        False, "With fsdp, keep a whole copy on each machine: less traffic between them, more memory.", runtime=True
    )
    max_restarts: int = key(
        3, "Times that all processes start again from the last checkpoint when one dies or falls silent.", ge=0,
        runtime=True,
    )  # fmt: skip
    heartbeat_timeout: float = key(
        600.0, "Seconds without a heartbeat, or without progress, before a process is declared dead.", gt=0,
        runtime=True,
    )  # fmt: skip
    precision: Literal["auto", "fp32", "bf16", "bf16-master"] = key(
        "auto", "Number format of training. bf16: matrix products, by autocast. bf16-master: the model itself; "
        "optimizers update a copy of the weights in fp32.",
    )  # fmt: skip
    compile: Literal["auto", "on", "off"] = key("auto", "Compile the blocks with torch.compile; auto: on CUDA.")

    def world_size(self) -> int:
        """Count the training processes, over all machines."""
        return (self.gpus or self.nproc_per_node) * self.nodes

    def device_name(self) -> str:
        """Return the device to train on: --gpus means cuda, and several processes without it mean cpu."""
        if self.gpus:
            return "cuda"
        return "cpu" if self.device == "auto" and self.nproc_per_node > 1 else self.device

    def on_cpu(self) -> bool:
        """Return whether it is certain that the CPU trains."""
        return self.device_name() == "cpu"

    def plan_options(self, micro_batch_size: int, accelerator: Accelerator | None = None) -> PlanOptions:
        """Return the ranks and their memory: that of an accelerator, or without one that of this machine's device."""
        if accelerator:
            memory, bf16, on_gpu = GPU_SPECS[accelerator].memory, self.precision != "fp32", True
        else:
            from gptctl.model import device

            chosen = device.select_device(self.device_name(), self.gpus)
            memory = device.memory_per_rank(chosen, self.world_size() // self.nodes)
            on_gpu = chosen.type == "cuda"
            bf16 = on_gpu and self.precision != "fp32" and device.optimizer_precision(chosen) == "bf16"
        return PlanOptions(
            strategy=self.parallel,
            world_size=self.world_size(),
            nodes=self.nodes,
            tp_size=self.tp_size,
            hybrid_shard=self.hybrid_shard,
            micro_batch_size=micro_batch_size,
            bf16=bf16 or self.precision == "bf16-master",
            bf16_master=self.precision == "bf16-master",
            on_gpu=on_gpu,
            memory=memory,
            accelerator=accelerator,
        )

    def distributed(self, arranged: Arrangement) -> Values:
        """Return the fields of a TrainJob that follow from these options and the arrangement of its ranks."""
        return {
            "device": self.device_name(),
            "world_size": self.world_size(),
            "nodes": self.nodes,
            "rdzv_endpoint": self.rdzv_endpoint,
            "strategy": arranged.layout.strategy,
            "micro_batch_size": arranged.micro_batch_size,
            "eval_batch_size": arranged.eval_batch_size,
            "tp_size": self.tp_size,
            "hybrid_shard": self.hybrid_shard,
            "max_restarts": self.max_restarts,
            "heartbeat_timeout": self.heartbeat_timeout,
            "precision": self.precision,
            "compile": self.compile,
        }

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        found = super().without_effect()
        if self.gpus:
            found["nproc_per_node"] = "beside --gpus"
            if self.device not in ("auto", "cuda"):
                found["device"] = "beside --gpus"
        if self.nodes == 1:
            found |= dict.fromkeys(("rdzv_endpoint", "hybrid_shard"), "without --nodes")
        if self.world_size() == 1:
            alone = ("parallel", "tp_size", "hybrid_shard", "max_restarts", "heartbeat_timeout")
            found |= dict.fromkeys(alone, "with a single process")
        if self.parallel not in ("auto", "tp"):
            found["tp_size"] = f"with --parallel {self.parallel}"
        if self.parallel not in ("auto", "fsdp"):
            found["hybrid_shard"] = f"with --parallel {self.parallel}"
        return found
