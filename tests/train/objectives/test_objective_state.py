"""An objective with a model of its own: a reference model beside the trained one, whole or sharded."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from gptctl.core import plugins
from gptctl.train.data.batch import Batch
from gptctl.train.job import Model, TrainJob
from gptctl.train.objectives import SummedLoss
from gptctl.train.objectives.language_model import LanguageModeling
from gptctl.train.strategies import Strategy
from tests.train.jobs import make_job, run_in, whole_model
from tests.train.rank_pool import RankPool, tensors, train_as_rank

load = plugins.load


class StayClose(LanguageModeling):
    """Predict the next token, and stay close to the model before training (the KL divergence of InstructGPT)."""

    def __init__(self, job: TrainJob) -> None:
        super().__init__(job.recipe)
        self.source = job.model
        self.reference = self.source.build().eval().requires_grad_(False)

    def prepare(self, strategy: Strategy, precision: str, compiled: bool) -> None:
        parameters = strategy.prepare_model(self.reference, precision, compiled)
        parts = {name: strategy.part_of(shard) for name, shard in parameters.items()}
        self.source.init_weights(self.reference, parts)

    def loss(self, model: Model, batch: Batch) -> SummedLoss:
        found = super().loss(model, batch)
        with torch.no_grad():
            reference = self.reference(batch.model_inputs()).log_softmax(-1)
        own = model(batch.model_inputs()).log_softmax(-1)
        each = F.kl_div(own, reference, reduction="none", log_target=True).sum(-1)
        return SummedLoss(found.total + 3 * each[batch.labels >= 0].sum(), found.targets)


def load_with_stay_close(package: str, name: str) -> Any:
    """Load a plug-in, or the objective above."""
    return SimpleNamespace(build=StayClose) if name == "stay_close" else load(package, name)


def train_in_pool(folder: Path, job: TrainJob) -> dict[str, Any]:
    """Train as one rank of a pool."""
    plugins.load = load_with_stay_close
    try:
        return train_as_rank(folder, job)
    finally:
        plugins.load = load


@pytest.mark.slow
def test_a_reference_model_is_prepared_like_the_trained_one(
    two: RankPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one device, replicated and sharded over two: the same weights, nearer to the first ones than without it."""
    monkeypatch.setattr(plugins, "load", load_with_stay_close)
    options: dict[str, Any] = {"precision": "fp32", "objective": "stay_close", "recipe": {"steps": 6}}
    job = make_job(**options)
    run_in(tmp_path / "single", job)
    found = {"single": tensors(tmp_path / "single" / "checkpoints" / "step-000006")}
    for strategy in ("ddp", "fsdp", "tp"):
        folder = tmp_path / strategy
        folder.mkdir()
        two.call(train_in_pool, folder, make_job(**options, world_size=2, strategy=strategy))
        found[strategy] = tensors(folder / "checkpoints" / "step-000006")
    for name, tensor in found["single"].items():
        for strategy in ("ddp", "fsdp", "tp"):
            other = found[strategy][name]
            rows = min(len(tensor), len(other)) if tensor.ndim else None
            torch.testing.assert_close(
                other[:rows] if rows else other, tensor[:rows] if rows else tensor, atol=2e-5, rtol=1e-3
            )
    run_in(tmp_path / "free", make_job(**options | {"objective": "language_model"}))
    free = tensors(tmp_path / "free" / "checkpoints" / "step-000006")
    start = {name: parameter.detach() for name, parameter in whole_model(job).named_parameters()}

    def distance(weights: dict[str, torch.Tensor]) -> float:
        return sum((weights[name] - start[name][: len(weights[name])]).square().sum().item() for name in start)

    assert distance(found["single"]) < distance(free)
