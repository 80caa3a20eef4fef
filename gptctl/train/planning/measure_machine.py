"""The speed at which this machine trains a model: some steps of the real model with its real optimizer."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from gptctl.core import plugins
from gptctl.model import device as devices
from gptctl.train.data.batch import Batch
from gptctl.train.monitor.device_stats import peak_flops, synchronize
from gptctl.train.objectives.language_model import LanguageModeling
from gptctl.train.planning.compute_optimal import Candidate
from gptctl.train.planning.gpu_specs import EFFICIENCY
from gptctl.train.strategies.single import SingleDevice
from gptctl.train.tasks.pretraining import NewModel

MEASURED_STEPS = 3
INITIALIZED_PER_SECOND = 5e7  # parameters, about
MAX_TOKENS = {"cuda": 65536, "mps": 16384, "cpu": 8192}  # of a forward pass; larger batches take as many more passes


@dataclass(frozen=True)
class Machine:
    """How this machine trains: on a device, with a number of processes in all and on this machine."""

    device: str = "auto"
    processes: int = 1
    local_processes: int = 1
    precision: str = "auto"
    compile: str = "auto"
    micro_batch_size: int = 0  # sequences per forward pass; 0 takes all


def measure_speed(candidate: Candidate, machine: Machine, seconds: float) -> float:
    """Return the tokens per second of all processes, measured in this process within about so many seconds.

    A model that is too large for that is not built: its speed follows from that of large matrix products.

    The first step is not counted, unless no time is left for a second one: it compiles and allocates. Gradients are
    not exchanged, so several processes are a little slower. Random numbers of torch are left as they were.
    """
    began, model, recipe = time.perf_counter(), candidate.model, candidate.recipe
    chosen = devices.select_device(machine.device)
    threads = devices.cpu_threads(machine.local_processes)
    devices.configure_process(threads)
    precision = machine.precision
    optimizer_precision = "fp32" if precision == "fp32" else "bf16"
    if machine.precision == "auto":
        precision = devices.select_precision(chosen, model.hidden_size, model.vocab_size)
        optimizer_precision = devices.optimizer_precision(chosen)
    expected = EFFICIENCY * peak_flops(chosen, precision, threads) / candidate.flops_per_token
    if 2 * recipe.seq_len / expected + model.parameters() / INITIALIZED_PER_SECOND > seconds:
        return machine.processes * expected
    share = max(1, recipe.batch_size // machine.processes)
    tokens = min(MAX_TOKENS[chosen.type], int(expected * seconds / (1 + MEASURED_STEPS)))
    size = max(1, min(share, machine.micro_batch_size or share, tokens // recipe.seq_len))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        new = NewModel(model, seed=0)
        gpt, strategy = new.build(), SingleDevice(chosen)
        parameters = strategy.prepare_model(gpt, precision, devices.should_compile(chosen, machine.compile))
        new.init_weights(gpt, {name: strategy.part_of(shard) for name, shard in parameters.items()})
        strategy.update_model()
        optimizers = plugins.load("gptctl.train.optimizers", recipe.optimizer).build(
            parameters, recipe, strategy, optimizer_precision
        )
        objective = LanguageModeling(recipe.model_copy(update={"document_mask": False}))
        batch = Batch.from_windows(torch.randint(model.vocab_size, (size, recipe.seq_len + 1))).to(chosen)
        gpt.train()
        found: list[float] = []
        while len(found) <= MEASURED_STEPS:
            start = time.perf_counter()
            with torch.autocast(chosen.type, torch.bfloat16, enabled=precision == "bf16"):
                loss = objective.loss(gpt, batch).total
            loss.backward()  # type: ignore[no-untyped-call]
            synchronize(chosen)
            forward_and_backward = time.perf_counter() - start
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            strategy.update_model()
            synchronize(chosen)
            updating = time.perf_counter() - start - forward_and_backward
            found.append(forward_and_backward * share / size + updating)
            spent = time.perf_counter() - start
            if time.perf_counter() - began + spent > seconds:
                break
    counted = sorted(found[1:] or found)
    return machine.processes * share * recipe.seq_len / counted[len(counted) // 2]
