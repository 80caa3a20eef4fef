"""The files of a sharded checkpoint: one per rank, written with torch.distributed.checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint import state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

from gptctl.core.errors import MachineError, from_os_error
from gptctl.core.written_files import file_hash


def write_shards(folder: Path, tensors: dict[str, Tensor], group: Any) -> dict[str, str]:
    """Write this rank's shards of tensors into a file of its own, and return the file's name and checksum.

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
    own = folder.glob(f"shard-{dist.get_rank(group) + 1:05d}-*")
    return {path.name: file_hash(path) for path in own}


def gather_checksums(own: dict[str, str], group: Any) -> dict[str, str]:
    """Return the checksums of all ranks' files."""
    gathered: list[dict[str, str]] = [{} for _ in range(dist.get_world_size(group))]
    dist.all_gather_object(gathered, own, group=group)
    return {name: value for found in gathered for name, value in found.items()}
