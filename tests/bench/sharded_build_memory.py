"""Show what each rank of a sharded run holds at most while its part of the model is built and filled.

    python tests/bench/sharded_build_memory.py [--ranks 4] [--parallel fsdp] [--load] [--layers 24] [--hidden-size 1280]

The default model has 0.5 billion parameters. gloo connects the ranks. With --load the weights are those of a model
folder, as in finetuning, which another process writes first, tensor by tensor. A rank's figure is its largest resident
memory (ru_maxrss) minus what it had before the model. The last line is one JSON document; `ratio` is the largest figure of a
rank as a share of its part: the weights in float32 divided by the number of ranks. With tp a rank holds a little more than
that, because norms and learned positions are not split.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from torch import nn

    from gptctl.train.job import TrainJob
    from gptctl.train.strategies import Strategy


@dataclass(frozen=True)
class Case:
    """The model and the ranks."""

    ranks: int
    parallel: str
    layers: int
    hidden_size: int
    vocab_size: int
    load: bool


def measure(rank: int, case: Case, folder: str) -> None:
    """Build and fill one rank's part, and write its figures."""
    os.environ |= {"RANK": str(rank), "LOCAL_WORLD_SIZE": str(case.ranks), "OMP_NUM_THREADS": "1"}
    import torch
    import torch.distributed as dist

    from gptctl.core import plugins
    from gptctl.train.monitor.heartbeat_writer import HeartbeatWriter

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=case.ranks)
    job = job_of(case, folder)
    module = plugins.load("gptctl.train.strategies", case.parallel)
    writer = HeartbeatWriter(Path(folder) / f"heartbeat-{rank}")
    strategy = module.build(job, torch.device("cpu"), writer)
    small = replace(case, layers=1, hidden_size=64 * case.ranks, vocab_size=64, load=False)
    prepare(job_of(small, folder), strategy)  # loads modules
    dist.barrier()
    before, began = psutil.Process().memory_info().rss, time.perf_counter()
    parameters = prepare(job, strategy)
    found = {
        "peak_bytes": peak_bytes() - before,
        "own_bytes": sum(shard.nbytes for shard in parameters.values()),
        "parameters": job.model.build().config.parameters(),
        "seconds": round(time.perf_counter() - began, 1),
    }
    Path(folder, f"found-{rank}.json").write_text(json.dumps(found))
    writer.close()
    dist.barrier()


def job_of(case: Case, folder: str) -> TrainJob:
    """Describe the run, of which only the model matters."""
    from gptctl.model.config import ModelConfig
    from gptctl.train.data.data_source import TrainSource
    from gptctl.train.job import TrainJob
    from gptctl.train.recipe import Recipe
    from gptctl.train.tasks.initial_models import InitialModel, PretrainedModel
    from gptctl.train.tasks.pretraining import NewModel

    config = ModelConfig(
        layers=case.layers,
        heads=case.hidden_size // 64,
        hidden_size=case.hidden_size,
        intermediate_size=4 * case.hidden_size,
        vocab_size=case.vocab_size,
        max_seq_len=1024,
    )
    base = InitialModel(Path(folder) / "model", config, config.vocab_size)
    model = PretrainedModel(base) if case.load else NewModel(config, 0)
    data = (TrainSource(ValueError),)  # never opened
    return TrainJob(Recipe(), model, data, world_size=case.ranks, strategy=case.parallel)


def write_folder(case: Case, folder: str) -> None:
    """Write the model folder of --load, and how much memory that took at most."""
    import torch

    from gptctl.model.files.lazy_tensor import LazyTensor
    from gptctl.model.save import save_model

    model = job_of(replace(case, load=False), folder).model.build()
    weights = {
        name: LazyTensor(tensor.shape, torch.float32, partial(torch.randn, tensor.shape))
        for name, tensor in model.state_dict().items()
    }
    before = psutil.Process().memory_info().rss
    save_model(Path(folder) / "model", model, "{}", {}, weights)
    Path(folder, "written.json").write_text(json.dumps({"peak_bytes": peak_bytes() - before}))


def prepare(job: TrainJob, strategy: Strategy) -> Mapping[str, nn.Parameter]:
    """Build this rank's part of the model and fill it, as a run does, and return its parameters."""
    model = job.model.build()
    parameters = strategy.prepare_model(model, "fp32", False)
    job.model.init_weights(model, {name: strategy.part_of(shard) for name, shard in parameters.items()})
    return parameters


def peak_bytes() -> int:
    """Return the largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def run(case: Case) -> list[dict[str, Any]]:
    """Start the ranks and return their figures."""
    context = get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        if case.load:
            writer = context.Process(target=write_folder, args=(case, folder))
            writer.start()
            writer.join()
            peak = json.loads(Path(folder, "written.json").read_text())["peak_bytes"]
            print(f"writing the folder: peak {peak / 1e6:7.1f} MB")
        processes = [context.Process(target=measure, args=(rank, case, folder)) for rank in range(case.ranks)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            sys.exit("a rank failed")
        return [json.loads(Path(folder, f"found-{rank}.json").read_text()) for rank in range(case.ranks)]


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--parallel", choices=("ddp", "fsdp", "tp"), default="fsdp")
    parser.add_argument("--load", action="store_true")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--hidden-size", type=int, default=1280)
    parser.add_argument("--vocab-size", type=int, default=32768)
    case = Case(**vars(parser.parse_args()))
    found = run(case)
    whole = 4 * found[0]["parameters"]
    for rank, figures in enumerate(found):
        print(
            f"rank {rank}: peak {figures['peak_bytes'] / 1e6:7.1f} MB for {figures['own_bytes'] / 1e6:7.1f} MB of weights, "
            f"{figures['seconds']} s"
        )
    largest = max(figures["peak_bytes"] for figures in found)
    summary = {"whole_bytes": whole, "ratio": round(largest * case.ranks / whole, 3), "ranks": found}
    print(json.dumps({"parallel": case.parallel, "load": case.load} | summary))


if __name__ == "__main__":
    main()
