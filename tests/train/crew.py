"""Connected processes that call functions together: engines as they are in a run, without the launcher's seconds."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import safe_open
from torch.distributed.checkpoint import state_dict_loader
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

from gptctl.core import plugins
from gptctl.core.context import Context
from gptctl.core.rundir import Run
from gptctl.train import loop
from gptctl.train.distributed import collectives
from gptctl.train.job import TrainJob
from gptctl.train.monitor.heartbeat import Pulse


class Crew:
    """So many ranks, waiting for work."""

    def __init__(self, pipes: list[Any]) -> None:
        self.pipes = pipes

    def call(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """Call a function of a module in every rank; give what came out, by rank. Raises what a rank could not do."""
        for pipe in self.pipes:
            pipe.send((function, args))
        assert all(pipe.poll(120) for pipe in self.pipes), "a rank hangs"
        answers = [pipe.recv() for pipe in self.pipes]
        for error, _ in answers:
            assert not error, error
        return [value for _, value in answers]

    def train(self, engine: str, folder: Path, job: TrainJob) -> dict[str, Any]:
        """Train in a run folder with an engine; give the first rank's metrics."""
        folder.mkdir(parents=True, exist_ok=True)
        job = replace(job, ranks=len(self.pipes))
        return self.call(train_as_rank, engine, folder, job)[0]  # type: ignore[no-any-return]


@contextmanager
def crew(ranks: int, folder: Path) -> Iterator[Crew]:
    """Start ranks, and end them."""
    context = get_context("spawn")
    pipes, processes = [], []
    for rank in range(ranks):
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, rank, ranks, folder), daemon=True)
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    try:
        yield Crew(pipes)
    finally:
        for pipe in pipes:
            pipe.send(None)
        for process in processes:
            process.join(20)
            process.kill()


def serve(pipe: Any, rank: int, ranks: int, folder: Path) -> None:
    """Be a rank until None comes."""
    os.environ |= {"RANK": str(rank), "LOCAL_WORLD_SIZE": str(ranks), "OMP_NUM_THREADS": "1"}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet-{ranks}", rank=rank, world_size=ranks)
    while (task := pipe.recv()) is not None:
        function, args = task
        try:
            pipe.send(("", function(*args)))
        except Exception:
            pipe.send((traceback.format_exc(), None))


def make_engine(name: str, job: TrainJob, folder: Path) -> Any:
    """Make the engine of this rank."""
    pulse = Pulse(folder / f"pulse-{dist.get_rank()}")
    return plugins.load("gptctl.train.strategies", name).make(job, torch.device("cpu"), pulse)


def train_as_rank(name: str, folder: Path, job: TrainJob) -> dict[str, Any]:
    """Train as this rank."""
    engine = make_engine(name, job, folder)
    try:
        return loop.fit(job, Run(folder, "pretrain", {}), Context(), engine)
    finally:
        engine.pulse.close()


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read every tensor of a checkpoint, whole, whichever layout it has."""
    metadata = HuggingFaceStorageReader(str(path)).read_metadata().state_dict_metadata
    found = {name: torch.zeros(entry.size, dtype=entry.properties.dtype) for name, entry in metadata.items()}  # type: ignore[union-attr]
    state_dict_loader.load(found, storage_reader=HuggingFaceStorageReader(str(path)), no_dist=True)
    return found


def stored_in(path: Path) -> list[str]:
    """List the tensors of one safetensors file."""
    with safe_open(path, "pt") as file:
        return list(file.keys())


def parts_of(name: str, job: TrainJob, folder: Path) -> tuple[int, int]:
    """Count the numbers that this rank holds of the model, and those of the whole model."""
    engine = make_engine(name, job, folder)
    model = job.build()
    whole = sum(parameter.numel() for parameter in model.parameters())
    parts = engine.adopt(model, "fp32", False)
    engine.pulse.close()
    return sum(part.numel() for part in parts.values()), whole


def cubes(matrices: list[torch.Tensor]) -> bool:
    """Share out work on matrices of which each rank holds some rows; tell whether each got its rows of the result."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    sizes = collectives.chunk_sizes(len(matrices[0]), ranks)
    pieces = [torch.split(matrix, sizes)[rank] for matrix in matrices]
    shared = collectives.share_out_rows(cube, pieces, sizes, None)
    whole = collectives.share_out(cube, matrices)
    expected = [cube(matrix[None])[0] for matrix in matrices]
    return all(
        torch.allclose(mine, torch.split(right, sizes)[rank]) and torch.allclose(all_of_it, right)
        for mine, all_of_it, right in zip(shared, whole, expected, strict=True)
    )


def cube(matrices: torch.Tensor) -> torch.Tensor:
    """Do what needs whole matrices."""
    return matrices @ matrices.mT @ matrices
