"""The description of a training run. All of it can be sent to another process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from gptctl.model.classifier import Classifier
from gptctl.model.gpt import GPT
from gptctl.model.tensor_part import TensorPart
from gptctl.train.data.data_source import DataSource, TrainSource
from gptctl.train.data.phases import MixturePhase
from gptctl.train.distributed.parallel_dims import ParallelDims
from gptctl.train.faults import FaultPolicy
from gptctl.train.planning.estimate import MIN_EVAL_BATCH
from gptctl.train.planning.time_budget import TimeBudget
from gptctl.train.preference import PreferenceLoss
from gptctl.train.recipe import Recipe

Model = GPT | Classifier


class ModelSource(Protocol):
    """Where the model of a run comes from: its modules, and its weights before training."""

    def build(self) -> Model:
        """Return the model on the meta device, without values."""

    def init_weights(self, model: Model, parts: Mapping[str, TensorPart]) -> None:
        """Fill a rank's parts of all parameters, given by name and in the model's order.

        No more than one parameter is ever whole in memory.
        """


@dataclass(frozen=True)
class TrainJob:
    """One training run.

    Every rank builds the model and opens the data itself, with the same result. So with more than one rank these
    objects must be picklable: dataclasses, and functools.partial of functions in modules.
    """

    recipe: Recipe
    model: ModelSource
    train_sources: tuple[TrainSource, ...]
    val_data: Callable[[], DataSource] | None = None
    phases: tuple[MixturePhase, ...] = ()  # of several sources: their weights, from the start of the run on
    objective: str = "language_model"  # a file in gptctl/train/objectives
    preference: PreferenceLoss | None = None  # what the objective "preference" minimizes
    tokenizer_json: str = ""  # stored with each checkpoint, so that it can be used as a model
    metadata: dict[str, Any] = field(default_factory=dict)  # likewise: label names, what it was trained on
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"  # auto, fp32, bf16 or bf16-master
    compile: str = "auto"  # auto, on or off
    micro_batch_size: int = 0  # sequences per forward pass and rank; 0 takes a rank's whole share of a batch
    eval_batch_size: int = MIN_EVAL_BATCH  # sequences per forward pass and rank of an evaluation

    max_tokens: int = 0  # 0 is no limit
    time_budget: TimeBudget | None = None  # the steps follow from it; those of the recipe are the first plan
    patience: int = 0  # evaluations without improvement after which to stop
    select_on: str = "loss"  # the metric on the val split that selects the best weights
    eval_every: int = 0  # steps; 0 evaluates at the end only
    eval_batches: int = 0  # of the recipe's batch size, spread over the val split; 0 reads all of it
    log_every: int = 10
    checkpoint_every: int = 0  # 0 saves at the end and when stopped
    keep_checkpoints: int = 2
    faults: FaultPolicy = field(default_factory=FaultPolicy)
    loggers: tuple[str, ...] = ()  # files in gptctl/train/loggers
    sample_every: int = 0  # evaluations between samples of the model's text; 0 writes none
    sample_prompt: str = ""

    world_size: int = 1  # ranks: one process per GPU, or gloo processes on the CPU
    nodes: int = 1  # machines, each with the same number of ranks
    strategy: str = "ddp"  # a file in gptctl/train/strategies; a single rank always uses single.py
    tp_size: int = 0  # for tp: ranks that share each matrix; 0 takes all of a machine
    hybrid_shard: bool = False  # for fsdp: each machine holds a copy of the model
    rdzv_endpoint: str = ""  # HOST:PORT where the machines find each other
    heartbeat_timeout: float = 600.0  # seconds after which a silent rank counts as lost
    max_restarts: int = 0  # of all ranks, from the last checkpoint, when one of them dies

    @property
    def local_world_size(self) -> int:
        """Count the ranks on each machine."""
        return self.world_size // self.nodes

    @property
    def parallel_dims(self) -> ParallelDims:
        """Return the layout of the ranks."""
        return ParallelDims.for_strategy(
            self.strategy, self.world_size, nodes=self.nodes, tp_size=self.tp_size, hybrid_shard=self.hybrid_shard
        )


def transformer_blocks(model: Model) -> nn.ModuleList:
    """Return the blocks of a model."""
    return language_model(model).blocks


def language_model(model: Model) -> GPT:
    """Return the GPT of a model."""
    return model.gpt if isinstance(model, Classifier) else model


def allocate(model: Model, device: torch.device) -> None:
    """Allocate the parameters of a model on the meta device, or a rank's shards, and compute its position tables.

    The parameters have no values yet.
    """
    model.to_empty(device=device)
    language_model(model).make_tables()
