"""What a training run is told: all of it can be sent to another process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from gptctl.model.classifier import Classifier
from gptctl.model.gpt import GPT
from gptctl.train.data.token_windows import Samples
from gptctl.train.faults import Faults
from gptctl.train.recipe import Recipe

Model = GPT | Classifier


@dataclass(frozen=True)
class TrainJob:
    """One training run. The three callables must be picklable (functools.partial of functions in modules) if ranks > 1:
    every rank opens the data and builds the model itself, which must come out the same."""

    recipe: Recipe
    build: Callable[[], Model]  # initialized, on the CPU
    train_data: Callable[[], Samples]
    val_data: Callable[[], Samples] | None = None
    objective: str = "language_model"  # a file in gptctl/train/objectives
    tokenizer_json: str = ""  # kept with each checkpoint, so that it can be used as a model
    about: dict[str, Any] = field(default_factory=dict)  # likewise: label names, what it was trained on
    seed: int = 0
    device: str = "auto"
    ranks: int = 1  # processes: one per GPU, or gloo processes on the CPU
    precision: str = "auto"  # auto, fp32 or bf16
    micro_batch_size: int = 0  # sequences per forward pass and rank; 0 takes the whole share of a step
    eval_batch_size: int = 0  # 0 takes the micro-batch's size, at least 32
    max_tokens: int = 0  # 0 is no bound, here and below
    max_minutes: float = 0.0
    patience: int = 0  # evaluations without improvement after which to stop
    select_on: str = "loss"  # the metric of the val split that decides what is best
    eval_every: int = 0  # steps; 0 evaluates at the end only
    log_every: int = 10
    checkpoint_every: int = 0  # 0 saves at the end and when stopped
    keep_checkpoints: int = 2
    faults: Faults = field(default_factory=Faults)
    loggers: tuple[str, ...] = ()  # files in gptctl/train/loggers
    sample_every: int = 0  # evaluations between excerpts of the model's text; 0 writes none
    sample_prompt: str = ""
    max_restarts: int = 0  # of all ranks, from the last checkpoint, when one of them dies
    parallel: str = "auto"  # a file in gptctl/train/engines; auto: see parallel.py
    tp_size: int = 0  # for tp: ranks that share each matrix; 0 takes all of a machine
    hybrid_shard: bool = False  # for fsdp: each machine holds a whole copy
    memory_bytes: int = 0  # that a rank needs to hold all of the model, as estimated; 0 is unknown
    nodes: int = 1  # machines, each with its part of the ranks
    rendezvous: str = ""  # HOST:PORT where they find each other
    timeout_seconds: float = 600.0  # after which a silent rank counts as lost
    compile: str = "auto"  # auto, on or off

    @property
    def local_ranks(self) -> int:
        """Processes on each machine."""
        return self.ranks // self.nodes


def blocks(model: Model) -> nn.ModuleList:
    """Return the blocks of a model."""
    return model.gpt.blocks if isinstance(model, Classifier) else model.blocks
