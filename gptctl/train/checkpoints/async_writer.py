"""Checkpoints written in a thread while training goes on.

The tensors are copied to main memory at once, so updates can follow; then the thread writes, checksums and renames. At
most one is under way, so the copies never pile up. Whatever kills the process meanwhile leaves the last good one.

Where every rank holds all of the model, the first one writes. Where each holds a part, each writes its own file with
torch.distributed.checkpoint, over a process group of their own, and the first one adds the rest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint import state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from torch.optim import Optimizer

from gptctl.core import atomic
from gptctl.core.errors import GptctlError, MachineError, from_os_error
from gptctl.model.files import checksummed, tensor_files
from gptctl.model.save import write_config, write_weights
from gptctl.train.checkpoints import checkpoint
from gptctl.train.job import Model, TrainJob
from gptctl.train.strategies import Strategy

CLOSE_SECONDS = 60  # for a checkpoint under way when training fails; its other ranks may be gone

Tensors = dict[str, Tensor]


class Writer:
    """One rank's part in writing the checkpoints of a run."""

    def __init__(
        self,
        run: Path,
        job: TrainJob,
        strategy: Strategy,
        model: Model,
        parameters: checkpoint.Parameters,
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
        self.written: list[Path] = []  # since the last look
        self.verified: set[Path] = set()

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Begin to write folder/step-NNNNNN; wait for the one before. Every rank must call it."""
        self.begin(self.folder / f"step-{step:06d}", state, with_optimizers=True)

    def save_best(self, state: dict[str, Any]) -> None:
        """Begin to replace folder/best by these weights. Every rank must call it."""
        self.begin(self.folder / checkpoint.BEST, state, with_optimizers=False)

    def begin(self, path: Path, state: dict[str, Any], with_optimizers: bool) -> None:
        """Copy the tensors and start the thread, if this rank has anything to write."""
        self.wait()
        if self.strategy.dims.is_replicated and self.strategy.rank:
            return
        optimizers = self.optimizers if with_optimizers else ()
        weights, kept = (
            {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
            for tensors in checkpoint.contents(self.parameters, optimizers, self.strategy)
        )
        self.thread = threading.Thread(
            target=self.run, args=(path, lambda: self.write(path, weights, kept, state)), daemon=True
        )
        self.thread.start()

    def run(self, path: Path, write: Callable[[], None]) -> None:
        """Write, remove what is too old, and note how it went."""
        try:
            write()
            self.written.append(path)
            if self.strategy.rank == 0:
                self.verified.add(path)
                checkpoint.prune(self.folder, max(1, self.job.keep_checkpoints), self.verified)
        except BaseException as error:
            self.error = error

    def write(self, path: Path, weights: Tensors, kept: Tensors, state: dict[str, Any]) -> None:
        """Write one checkpoint."""
        if self.strategy.dims.is_replicated:
            with atomic.atomic_folder(path) as temporary:
                write_weights(temporary, self.model, weights)
                if kept:
                    tensor_files.write_tensors(temporary / "optimizer.safetensors", kept)
                self.complete(temporary, state)
            return
        # The first rank's steps come one by one with all others told of each, so that none waits for what fails.
        with ExitStack() as stack:
            temporary = self.together(lambda: stack.enter_context(atomic.atomic_folder(path)))
            own = write_part(temporary, weights | kept, self.strategy.checkpoint_group)
            checksums = gather(own, self.strategy.checkpoint_group)
            self.together(lambda: self.complete(temporary, state, checksums))
            self.together(stack.close)

    def complete(self, folder: Path, state: dict[str, Any], checksums: dict[str, str] | None = None) -> None:
        """Add what is not a tensor, the manifest last."""
        write_config(folder, self.model, self.job.tokenizer_json, self.job.metadata)
        atomic.write_json(folder / "state.json", state)
        checksummed.write_manifest(folder, "checkpoint", checksums)

    def together(self, step: Callable[[], Any]) -> Any:
        """Let the first rank do something and tell all others what came out, or that it failed."""
        outcome: list[Any] = [None, ""]
        failure: GptctlError | None = None
        if self.strategy.rank == 0:
            try:
                outcome[0] = step()
            except GptctlError as error:
                failure, outcome[1] = error, error.message
        dist.broadcast_object_list(outcome, group=self.strategy.checkpoint_group, group_src=0)
        if outcome[1]:
            raise failure or MachineError(f"rank 0: {outcome[1]}", "see its message")
        return outcome[0]

    @property
    def failed(self) -> bool:
        """Return whether something went wrong that `wait` will raise."""
        return self.error is not None

    def finished(self) -> list[Path]:
        """Return what was written since the last look."""
        found, self.written = self.written, []
        return found

    def wait(self) -> None:
        """Wait until nothing is under way. Raises what went wrong."""
        if self.thread is not None:
            self.thread.join()
            self.thread = None
        error, self.error = self.error, None
        if error is not None:
            raise error

    def close(self) -> None:
        """Let what is under way come to its end, after something went wrong elsewhere."""
        if self.thread is not None:
            self.thread.join(CLOSE_SECONDS)


def write_part(folder: Path, tensors: Tensors, group: Any) -> dict[str, str]:
    """Write this rank's parts of tensors into a file of its own; give the file's name and checksum.

    Raises MachineError (4) on every rank if one cannot write.
    """
    try:
        state_dict_saver.save(
            tensors,
            storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True),
            process_group=group,
        )
    except CheckpointException as error:
        rank, (reason, _) = min(error.failures.items())
        found = from_os_error(reason, folder) if isinstance(reason, OSError) else MachineError(str(reason))
        raise MachineError(f"rank {rank}: {found.message}", found.hint) from error
    mine = folder.glob(f"shard-{dist.get_rank(group) + 1:05d}-*")
    return {path.name: checksummed.checksum(path) for path in mine}


def gather(own: dict[str, str], group: Any) -> dict[str, str]:
    """Put together what each rank found."""
    everyone: list[dict[str, str]] = [{} for _ in range(dist.get_world_size(group))]
    dist.all_gather_object(everyone, own, group=group)
    return {name: value for found in everyone for name, value in found.items()}
