"""The writer of checkpoints, which works in a thread while training continues.

The tensors are copied to main memory at once, so updates can follow. Then the thread writes, checksums and renames. At
most one checkpoint is being written, so copies never pile up. If the process is killed meanwhile, the last complete
checkpoint is left.

Where every rank holds the whole model, the first rank writes. Where the model is sharded, each rank writes its shards
with torch.distributed.checkpoint, over a process group of its own, and the first rank adds the other files.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.optim import Optimizer

from gptctl.core import atomic
from gptctl.core.errors import GptctlError, MachineError, from_os_error
from gptctl.model.files import model_manifest, shard_index, tensor_files
from gptctl.model.save import write_config, write_weights
from gptctl.train.checkpoints import checkpoint_folders
from gptctl.train.checkpoints.sharded_files import gather_checksums, write_shards
from gptctl.train.job import Model, TrainJob
from gptctl.train.strategies import Strategy

CLOSE_SECONDS = 60  # to finish a checkpoint when training has failed; the other ranks may be gone

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Snapshot:
    """What one rank writes into a checkpoint, copied to main memory."""

    weights: Tensors
    optimizers: Tensors
    progress: dict[str, Any]


class AsyncCheckpointWriter:
    """One rank's part in writing the checkpoints of a run."""

    def __init__(
        self,
        run: Path,
        job: TrainJob,
        strategy: Strategy,
        model: Model,
        parameters: Mapping[str, nn.Parameter],
        optimizers: Sequence[Optimizer],
    ) -> None:
        self.folder = run / "checkpoints"
        self.job = job
        self.strategy = strategy
        self.model = model
        self.parameters = parameters
        self.optimizers = optimizers
        self.thread: threading.Thread | None = None
        self.error: BaseException | None = None
        self.finished: list[Path] = []  # since the last call of `take_finished`
        self.verified: set[Path] = set()
        self.stager = pinned_stager(strategy.device)

    def save(self, step: int, progress: dict[str, Any]) -> None:
        """Start to write the checkpoint of a step, after the one before is complete. Every rank must call it."""
        path = checkpoint_folders.step_folder(self.folder, step)
        self.start(path, lambda: Snapshot(self.copy_weights(), self.copy_optimizers(), progress))

    def save_best(self, progress: dict[str, Any]) -> None:
        """Start to replace folder/best by the current weights. Every rank must call it."""
        self.start(self.folder / checkpoint_folders.BEST, lambda: Snapshot(self.copy_weights(), {}, progress))

    def start(self, path: Path, take_snapshot: Callable[[], Snapshot]) -> None:
        """Copy the tensors and start the thread, if this rank has anything to write."""
        self.wait()
        if self.strategy.dims.is_replicated and self.strategy.rank:
            return
        snapshot = take_snapshot()
        self.thread = threading.Thread(target=self.write_and_prune, args=(path, snapshot), daemon=True)
        self.thread.start()

    def copy_weights(self) -> Tensors:
        """Copy this rank's shards of the weights."""
        return self.copy_to_cpu(
            {
                name: self.strategy.as_dtensor(parameter, parameter.detach())
                for name, parameter in self.parameters.items()
            }
        )

    def copy_optimizers(self) -> Tensors:
        """Copy this rank's shards of the optimizers' state."""
        return self.copy_to_cpu(
            {
                f"{index}.{name}.{key}": self.strategy.as_dtensor(parameter, value) if value.ndim else value
                for index, optimizer in enumerate(self.optimizers)
                for name, parameter in self.parameters.items()
                for key, value in optimizer.state.get(parameter, {}).items()
            }
        )

    def copy_to_cpu(self, tensors: Tensors) -> Tensors:
        """Copy tensors to main memory. What is copied from a GPU is valid until the next checkpoint."""
        if self.stager is None:
            return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
        return cast(Tensors, self.stager.stage(tensors))

    def write_and_prune(self, path: Path, snapshot: Snapshot) -> None:
        """Write a checkpoint, remove old ones, and keep the error if there was one."""
        try:
            self.write(path, snapshot)
            self.finished.append(path)
            if self.strategy.rank == 0:
                self.verified.add(path)
                checkpoint_folders.prune(self.folder, max(1, self.job.keep_checkpoints), self.verified)
        except BaseException as error:
            self.error = error

    def write(self, path: Path, snapshot: Snapshot) -> None:
        """Write one checkpoint."""
        if self.strategy.dims.is_replicated:
            with atomic.atomic_folder(path) as temporary:
                write_weights(temporary, self.model, snapshot.weights)
                if snapshot.optimizers:
                    tensor_files.write_tensors(temporary / "optimizer.safetensors", snapshot.optimizers)
                self.complete(temporary, snapshot.progress)
            return
        # All ranks hear of the result of each of the first rank's steps, so that none waits after a failure.
        group = self.strategy.checkpoint_group
        with ExitStack() as stack:
            temporary = self.on_first_rank(lambda: stack.enter_context(atomic.atomic_folder(path)))
            own = write_shards(temporary, snapshot.weights | snapshot.optimizers, group)
            checksums = gather_checksums(own, group)
            self.on_first_rank(lambda: self.complete(temporary, snapshot.progress, checksums))
            self.on_first_rank(stack.close)

    def complete(self, folder: Path, progress: dict[str, Any], checksums: dict[str, str] | None = None) -> None:
        """Add what is not a tensor, the manifest last."""
        write_config(folder, self.model, self.job.tokenizer_json, self.job.metadata)
        atomic.write_json(folder / "state.json", progress)
        if checksums:
            shard_index.write_index(folder)
        model_manifest.write_manifest(folder, "checkpoint", checksums)

    def on_first_rank(self, function: Callable[[], Any]) -> Any:
        """Call a function in the first rank, and return its result or raise its error in all ranks."""
        outcome: list[Any] = [None, ""]
        failure: Exception | None = None
        if self.strategy.rank == 0:
            try:
                outcome[0] = function()
            except Exception as error:  # any: the other ranks wait for the result
                failure = from_os_error(error, self.folder) if isinstance(error, OSError) else error
                outcome[1] = failure.message if isinstance(failure, GptctlError) else repr(failure)
        dist.broadcast_object_list(outcome, group=self.strategy.checkpoint_group, group_src=0)
        if outcome[1]:
            raise failure or MachineError(f"rank 0: {outcome[1]}", "see its message")
        return outcome[0]

    @property
    def failed(self) -> bool:
        """Return whether there is an error that `wait` will raise."""
        return self.error is not None

    def take_finished(self) -> list[Path]:
        """Return the folders that were completed since the last call."""
        found, self.finished = self.finished, []
        return found

    def wait(self) -> None:
        """Wait until nothing is being written. Raises the error of what was."""
        if self.thread is not None:
            with self.strategy.busy("save"):
                self.thread.join()
            self.thread = None
        error, self.error = self.error, None
        if error is not None:
            raise error

    def close(self) -> None:
        """Let a checkpoint that is being written be completed, after an error elsewhere."""
        if self.thread is not None:
            self.thread.join(CLOSE_SECONDS)


def pinned_stager(device: torch.device) -> DefaultStager | None:
    """Return what copies tensors from a GPU into pinned memory, which the next checkpoint uses again; else None."""
    if device.type != "cuda":
        return None
    options = StagingOptions(
        use_pinned_memory=True, use_shared_memory=False, use_async_staging=False, use_non_blocking_copy=True
    )
    return DefaultStager(options)
