"""Connected processes that call functions together: strategies as in a run, without the seconds of the launcher."""

from __future__ import annotations

import gc
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.distributed as dist
from safetensors import safe_open
from torch.distributed.checkpoint import state_dict_loader
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

from gptctl.core import plugins
from gptctl.core.context import Context
from gptctl.core.run_folder import Run
from gptctl.model import tensor_part
from gptctl.model.files import model_manifest
from gptctl.model.tensor_part import TensorPart
from gptctl.train import loop
from gptctl.train.checkpoints.resume import find_checkpoint
from gptctl.train.distributed import collectives, sharded_strategy
from gptctl.train.job import TrainJob
from gptctl.train.monitor.heartbeat_writer import HeartbeatWriter
from tests.allocations import peak_allocated


class RankPool:
    """Ranks that wait for functions to call."""

    def __init__(self, pipes: list[Any]) -> None:
        self.pipes = pipes
        self.calls = 0

    def call(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """Call a function of a module in every rank, and return the results by rank. Fails if a rank raised an error."""
        self.calls += 1
        for pipe in self.pipes:
            pipe.send((self.calls, function, args))
        answers = [self.answer(pipe) for pipe in self.pipes]
        for error, _ in answers:
            assert not error, error
        return [value for _, value in answers]

    def answer(self, pipe: Any) -> tuple[str, Any]:
        """Return a rank's answer to the newest call. Answers to calls that were given up as hanging are dropped."""
        while True:
            assert pipe.poll(240), "a rank hangs"
            number, error, value = pipe.recv()
            if number == self.calls:
                return error, value

    def train(self, strategy: str, folder: Path, job: TrainJob) -> dict[str, Any]:
        """Train in a run folder with a strategy, and return the first rank's metrics."""
        folder.mkdir(parents=True, exist_ok=True)
        job = replace(job, world_size=len(self.pipes), strategy=strategy)
        return self.call(train_as_rank, folder, job)[0]  # type: ignore[no-any-return]


@contextmanager
def rank_pool(ranks: int, folder: Path) -> Iterator[RankPool]:
    """Start ranks, and end them afterwards."""
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
        yield RankPool(pipes)
    finally:
        for pipe in pipes:
            pipe.send(None)
        for process in processes:
            process.join(20)
            process.kill()


def serve(pipe: Any, rank: int, ranks: int, folder: Path) -> None:
    """Call functions as one rank until None arrives."""
    os.environ |= {"RANK": str(rank), "LOCAL_WORLD_SIZE": str(ranks), "OMP_NUM_THREADS": "1"}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet-{ranks}", rank=rank, world_size=ranks)
    while (task := pipe.recv()) is not None:
        number, function, args = task
        try:
            pipe.send((number, "", function(*args)))
        except Exception:
            pipe.send((number, traceback.format_exc(), None))


def build_strategy(job: TrainJob, folder: Path) -> Any:
    """Build the strategy of this rank."""
    heartbeat_writer = HeartbeatWriter(folder / f"heartbeat-{dist.get_rank()}")
    return plugins.load("gptctl.train.strategies", job.strategy).build(job, torch.device("cpu"), heartbeat_writer)


def train_as_rank(folder: Path, job: TrainJob) -> dict[str, Any]:
    """Train as this rank."""
    strategy = build_strategy(job, folder)
    try:
        return loop.train_rank(job, Run(folder, "pretrain", {}), Context(), strategy)
    finally:
        strategy.heartbeat_writer.close()


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read every full tensor of a checkpoint, whichever layout it has."""
    metadata = HuggingFaceStorageReader(str(path)).read_metadata().state_dict_metadata
    found = {name: torch.zeros(entry.size, dtype=entry.properties.dtype) for name, entry in metadata.items()}  # type: ignore[union-attr]
    state_dict_loader.load(found, storage_reader=HuggingFaceStorageReader(str(path)), no_dist=True)
    return found


def stored_in(path: Path) -> list[str]:
    """List the tensors of one safetensors file."""
    with safe_open(path, "pt") as file:
        return list(file.keys())


def initial_parts(job: TrainJob, folder: Path) -> dict[str, TensorPart]:
    """Build the model of a job as this rank does before it trains, and return its parts of the parameters."""
    strategy = build_strategy(job, folder)
    model = job.model.build()
    parameters = strategy.prepare_model(model, "fp32", False)
    parts = {name: strategy.part_of(shard) for name, shard in parameters.items()}
    job.model.init_weights(model, parts)
    strategy.heartbeat_writer.close()
    return parts


def peak_of_build(job: TrainJob, folder: Path) -> tuple[int, int]:
    """Return the largest sum of bytes allocated while this rank builds and fills its part, and the bytes of the part."""
    tensor_part.CHUNK_ELEMENTS = 2**12  # small beside the model
    initial_parts(job, folder)  # the first call loads modules
    gc.collect()  # what it held is not freed while the next call is measured
    peak, parts = peak_allocated(lambda: initial_parts(job, folder))
    return peak, sum(part.values.nbytes for part in parts.values())


def count_held(job: TrainJob, folder: Path) -> tuple[int, int]:
    """Count the parameters that this rank holds, and those of the full model."""
    strategy = build_strategy(job, folder)
    model = job.model.build()
    total = sum(parameter.numel() for parameter in model.parameters())
    shards = strategy.prepare_model(model, "fp32", False)
    strategy.heartbeat_writer.close()
    return sum(shard.numel() for shard in shards.values()), total


def files_verified(folder: Path, job: TrainJob) -> list[str]:
    """Look for the newest checkpoint; return the names of the files that this rank has hashed."""
    strategy, checksum = build_strategy(job, folder), model_manifest.file_hash
    hashed: list[str] = []

    def note(path: Path) -> str:
        hashed.append(path.name)
        return checksum(path)

    model_manifest.file_hash = note
    try:
        assert find_checkpoint(folder, strategy) is not None
    finally:
        model_manifest.file_hash = checksum
        strategy.heartbeat_writer.close()
    return hashed


def count_sockets(folder: Path, job: TrainJob) -> int:
    """Return how many sockets this rank has more after it built a strategy."""
    dist.barrier()
    before = open_sockets()
    strategy = build_strategy(job, folder)
    dist.barrier(strategy.control_group)
    dist.barrier(strategy.checkpoint_group)
    strategy.heartbeat_writer.close()
    return open_sockets() - before


def open_sockets() -> int:
    """Count the connected sockets of this process."""
    return sum(found.status == psutil.CONN_ESTABLISHED for found in psutil.Process().net_connections("tcp"))


def cubes(matrices: list[torch.Tensor]) -> bool:
    """Map matrices whose rows are sharded, and replicated ones; return whether this rank gets the right results."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    sizes = collectives.chunk_sizes(len(matrices[0]), ranks)
    pieces = [torch.split(matrix, sizes)[rank] for matrix in matrices]
    shared = collectives.map_sharded_matrices(cube, pieces, sizes, None)
    whole = collectives.map_replicated_matrices(cube, matrices)
    expected = [cube(matrix[None])[0] for matrix in matrices]
    return all(
        torch.allclose(mine, torch.split(right, sizes)[rank]) and torch.allclose(all_of_it, right)
        for mine, all_of_it, right in zip(shared, whole, expected, strict=True)
    )


def cube(matrices: torch.Tensor) -> torch.Tensor:
    """Return the cube of each matrix: a function that needs full matrices."""
    return matrices @ matrices.mT @ matrices


def gathered_dtypes(job: TrainJob, folder: Path) -> dict[str, torch.dtype]:
    """Return the formats in which this rank computes a mixture of experts in bfloat16, as on a GPU."""
    usual = sharded_strategy.BF16_DEVICES
    sharded_strategy.BF16_DEVICES = ("cpu",)
    try:
        model, strategy, parameters = prepared(job, folder, "bf16")
    finally:
        sharded_strategy.BF16_DEVICES = usual
    found: dict[str, torch.dtype] = {}
    mixture = model.blocks[0].feed_forward

    def note(name: str) -> Callable[..., None]:
        return lambda module, *_: found.update({name: next(module.parameters()).dtype})

    mixture.router.register_forward_hook(note("router"), prepend=True)
    mixture.experts.register_forward_hook(note("experts"), prepend=True)
    with torch.autocast("cpu", torch.bfloat16):
        step(model, strategy, parameters)
    gradients = {name: shard.grad for name, shard in parameters.items() if shard.grad is not None and shard.numel()}
    assert gradients.keys() == {name for name, shard in parameters.items() if shard.numel()}
    (dtype,) = {gradient.dtype for gradient in gradients.values()}
    return found | {"gradient": dtype}


def train_half_frozen(job: TrainJob, folder: Path) -> tuple[bool, bool]:
    """Update a model whose first block is frozen; return whether that block has stayed, and the other has changed."""
    model, strategy, parameters = prepared(job, folder, "fp32", frozen="blocks.0.")
    before = {name: shard.detach().clone() for name, shard in parameters.items()}
    step(model, strategy, parameters)
    for optimizer in plugins.load("gptctl.train.optimizers", "adamw").build(parameters, job.recipe, strategy):
        optimizer.step()
    same = {name: torch.equal(before[name], shard) for name, shard in parameters.items() if shard.numel()}
    frozen = [name for name in same if name.startswith("blocks.0.")]
    return all(same[name] for name in frozen), not any(same[name] for name in same if name not in frozen)


def prepared(job: TrainJob, folder: Path, precision: str, frozen: str = "no") -> tuple[Any, Any, dict[str, Any]]:
    """Return the model, the strategy and the shards of this rank; parameters whose name begins with `frozen` do not learn."""
    strategy = build_strategy(job, folder)
    strategy.heartbeat_writer.close()
    model = job.model.build()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen))
    parameters = strategy.prepare_model(model, precision, False)
    job.model.init_weights(model, {name: strategy.part_of(shard) for name, shard in parameters.items()})
    return model, strategy, parameters


def logits_of(job: TrainJob, folder: Path, tokens: torch.Tensor) -> tuple[torch.Tensor, list[float]]:
    """Return the logits of tokens, and the norms of two whole gradients of the sum of their squares."""
    model, _, _ = prepared(job, folder, "fp32")
    logits = model(tokens)
    logits.square().sum().backward()
    gradients = model.blocks[0].attention.output.weight.grad, model.embedding.weight.grad
    return logits.detach(), [gradient.full_tensor().norm().item() for gradient in gradients]


def step(model: Any, strategy: Any, parameters: dict[str, Any]) -> None:
    """Compute the gradients of some tokens."""
    tokens = torch.arange(64).view(2, 32)
    model(tokens, targets=tokens).cross_entropy.backward()
    strategy.reduce_gradients(parameters)
