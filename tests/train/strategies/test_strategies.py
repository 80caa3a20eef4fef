"""Strategies: the same training whoever holds what, on one rank, two or four."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from gptctl.core.errors import UsageError
from gptctl.model.classifier import Classifier
from gptctl.model.tensor_part import TensorPart
from gptctl.train.data.batch import Batch
from gptctl.train.data.token_windows import TokenWindows
from gptctl.train.distributed.parallel_dims import check_divisible
from gptctl.train.job import TrainJob
from gptctl.train.monitor.stragglers import StragglerDetector
from tests.train.jobs import WholeModel, make_job, only, run_in, text, whole_model
from tests.train.rank_pool import (
    RankPool,
    count_held,
    cubes,
    gathered_dtypes,
    initial_parts,
    peak_of_build,
    tensors,
    train_half_frozen,
)  # fmt: skip
from tests.train.test_loop import classifier, events, labelled

STRATEGIES = ("ddp", "fsdp", "tp")
STEPS = 5


def job_of(case: str, **changes: Any) -> TrainJob:
    """Describe a short run of uneven shares (5 samples) in micro-batches, with clipping."""
    settings: dict[str, Any] = {
        "precision": "fp32",
        "micro_batch_size": 2,
        "eval_every": 2,
        "eval_batch_size": 10,
        "log_every": 1,
    } | changes
    recipe = {"steps": STEPS, "batch_size": 5, "grad_clip": 0.5, "warmup_steps": 2, "lr": 1e-3, "matrix_lr": 2e-3}
    recipe |= settings.pop("recipe", {})
    if case == "classifier":
        job = make_job("test-modern", recipe={**recipe, "optimizer": "adamw", "lm_weight": 0.3}, **settings)
        return replace(
            job,
            model=WholeModel(calm_classifier),
            train_sources=only(partial(labelled, "train")),
            val_data=partial(labelled, "val"),
            objective="classification",
        )
    return make_job(case, recipe=recipe, **settings)


def calm_classifier() -> Classifier:
    """Build a classifier without dropout, whose random numbers each rank draws for itself."""
    model = classifier(0)
    model.label_dropout.p = 0.0
    return model


def last(folder: Path, step: int = STEPS) -> dict[str, torch.Tensor]:
    """Give every tensor of a checkpoint."""
    return tensors(folder / "checkpoints" / f"step-{step:06d}")


def assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], atol: float = 1e-5) -> None:
    """Every tensor up to rounding; weights are stored with or without the padding of the vocabulary."""
    assert one.keys() == other.keys()
    for name in one:
        mine, yours = one[name], other[name]
        if mine.ndim:
            rows = min(len(mine), len(yours))
            mine, yours = mine[:rows], yours[:rows]
        assert torch.allclose(mine, yours, atol=atol, rtol=1e-4), (name, (mine - yours).abs().max())


def compare(ranks: RankPool, folder: Path, case: str, strategies: tuple[str, ...] = STRATEGIES) -> None:
    """Train alone and together: the same weights, optimizer state, losses and gradient norms."""
    job = job_of(case)
    alone = run_in(folder / "alone", job)
    for strategy in strategies:
        together = ranks.train(strategy, folder / strategy, job)
        assert_close(last(folder / "alone"), last(folder / strategy))
        assert together["val_loss"] == pytest.approx(alone["val_loss"], abs=1e-5)
        for kind, name in (("step", "grad_norm"), ("step", "loss"), ("eval", "val_loss")):
            expected = [line[name] for line in events(folder / "alone", kind)]
            assert [line[name] for line in events(folder / strategy, kind)] == pytest.approx(expected, rel=1e-4)
        assert together["parameters"] == alone["parameters"]
        assert together["tokens"] == alone["tokens"]


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.slow) for case in ("test-gpt2", "test-modern", "classifier")] + ["test-moe"],
)
def test_two_ranks_train_as_one(two: RankPool, tmp_path: Path, case: str) -> None:
    """AdamW with biases and a learned table, Muon with QK-norm, experts, a classifier with two losses."""
    compare(two, tmp_path, case)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["test-gpt2", "test-modern", "test-moe", "classifier"])
def test_four_ranks_train_as_one(four: RankPool, tmp_path: Path, case: str) -> None:
    """More ranks than some tensors have rows for: a classifier's two biases, for one."""
    compare(four, tmp_path, case, ("ddp", "fsdp"))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_four_ranks_share_two_experts(four: RankPool, tmp_path: Path, optimizer: str) -> None:
    """Each rank holds a quarter of every expert, and the training is that of one rank."""
    job = job_of("test-moe", model={"experts": 2}, recipe={"optimizer": optimizer})
    run_in(tmp_path / "alone", job)
    four.train("fsdp", tmp_path / "fsdp", job)
    assert_close(last(tmp_path / "alone"), last(tmp_path / "fsdp"))
    held = four.call(count_held, replace(job, world_size=4, strategy="fsdp"), tmp_path)
    assert all(own < 0.3 * total for own, total in held)


@pytest.mark.slow
def test_two_ranks_share_three_experts(two: RankPool, tmp_path: Path) -> None:
    """Three cannot be shared out evenly. One rank goes on with what two have written."""
    job = job_of("test-moe", model={"experts": 3}, recipe={"optimizer": "muon", "schedule": "constant"})
    run_in(tmp_path / "alone", job)
    two.train("fsdp", tmp_path / "fsdp", replace(job, max_tokens=2 * 5 * 32))
    shutil.copytree(tmp_path / "fsdp", tmp_path / "one")
    two.train("fsdp", tmp_path / "fsdp", job)
    run_in(tmp_path / "one", job)
    for name in ("fsdp", "one"):
        assert_close(last(tmp_path / "alone"), last(tmp_path / name))


def resume(ranks: RankPool, folder: Path, strategy: str, job: TrainJob) -> None:
    """Train without a break, and stopped after two of five steps and gone on with: every bit the same."""
    ranks.train(strategy, folder / "straight", job)
    ranks.train(strategy, folder / "halves", replace(job, max_tokens=2 * 5 * 32))
    ranks.train(strategy, folder / "halves", job)
    assert [line["step"] for line in events(folder / "halves", "resumed")] == [2]
    straight, halves = last(folder / "straight"), last(folder / "halves")
    assert straight.keys() == halves.keys()
    assert all(torch.equal(straight[name], halves[name]) for name in straight)


@pytest.mark.parametrize(
    "strategy", [pytest.param(name, marks=[] if name == "fsdp" else [pytest.mark.slow]) for name in STRATEGIES]
)
def test_a_resumed_run_is_bit_equal(two: RankPool, tmp_path: Path, strategy: str) -> None:
    """Dropout, Muon, QK-norm and all."""
    resume(two, tmp_path, strategy, job_of("test-modern", model={"dropout": 0.1}, recipe={"schedule": "constant"}))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_resumed_run_of_four_is_bit_equal(four: RankPool, tmp_path: Path, strategy: str) -> None:
    """More than two ranks can add in more than one order."""
    for preset in ("test-gpt2", "test-modern"):
        job = job_of(preset, model={"dropout": 0.1}, recipe={"schedule": "constant"})
        resume(four, tmp_path / preset, strategy, job)


@pytest.mark.slow
def test_a_copy_on_each_machine(four: RankPool, tmp_path: Path) -> None:
    """Rows spread over each of two machines' ranks, copies between them: as alone, and resumed bit by bit."""
    job = job_of("test-modern", nodes=2, hybrid_shard=True, recipe={"schedule": "constant"})
    resume(four, tmp_path, "fsdp", job)
    run_in(tmp_path / "alone", job_of("test-modern", recipe={"schedule": "constant"}))
    assert_close(last(tmp_path / "alone"), last(tmp_path / "straight"))


class Recorded(TokenWindows):
    """Windows that write down which samples were asked for."""

    def __init__(self, path: Path, seq_len: int) -> None:
        super().__init__([text()], seq_len, 7)
        self.path = path

    def batch(self, first_index: int, count: int) -> Batch:
        with self.path.open("a") as file:
            file.write("".join(f"{index}\n" for index in range(first_index, first_index + count)))
        return super().batch(first_index, count)


def samples(folder: Path) -> set[int]:
    """Return what was read; ranks that share matrices read the same."""
    return {int(line) for line in (folder / "samples").read_text().splitlines()}


def relay(ranks: RankPool, folder: Path, strategies: tuple[str, ...]) -> None:
    """Hand a run from strategy to strategy, a step each: the samples in order, the weights as from one strategy."""
    job = job_of("test-modern", recipe={"schedule": "constant", "steps": len(strategies)})
    job = replace(job, train_sources=only(partial(Recorded, folder / "samples", 32)), val_data=None)
    for number, strategy in enumerate(strategies, 1):
        leg = replace(job, max_tokens=number * 5 * 32)
        if strategy == "single":
            run_in(folder / "relay", leg)
        else:
            ranks.train(strategy, folder / "relay", leg)
    assert samples(folder) == set(range(5 * len(strategies)))
    run_in(folder / "alone", replace(job, train_sources=only(partial(Recorded, folder / "others", 32))))
    assert_close(last(folder / "alone", len(strategies)), last(folder / "relay", len(strategies)))


@pytest.mark.slow
def test_any_strategy_goes_on_with_what_another_left(two: RankPool, tmp_path: Path) -> None:
    """Whole to sharded, sharded to cut, back to whole."""
    relay(two, tmp_path, ("single", "fsdp", "tp", "ddp", "fsdp", "single"))


@pytest.mark.slow
def test_another_number_of_ranks_goes_on(two: RankPool, four: RankPool, tmp_path: Path) -> None:
    """Saved by two, loaded by four and by one: same samples in the same order, same weights."""
    job = job_of("test-gpt2", recipe={"schedule": "constant", "steps": 4})
    job = replace(job, train_sources=only(partial(Recorded, tmp_path / "samples", 32)), val_data=None)
    two.train("fsdp", tmp_path / "run", replace(job, max_tokens=1 * 5 * 32))
    four.train("fsdp", tmp_path / "run", replace(job, max_tokens=2 * 5 * 32))
    four.train("tp", tmp_path / "run", replace(job, max_tokens=3 * 5 * 32, tp_size=2))
    run_in(tmp_path / "run", job)
    assert samples(tmp_path) == set(range(20))
    run_in(tmp_path / "alone", replace(job, train_sources=only(partial(Recorded, tmp_path / "others", 32))))
    assert_close(last(tmp_path / "alone", 4), last(tmp_path / "run", 4))


@pytest.mark.slow
def test_heads_within_rows(four: RankPool, tmp_path: Path) -> None:
    """Two groups of two that share matrices, rows spread over the groups: as alone, and resumed bit by bit."""
    job = job_of("test-modern", tp_size=2, recipe={"schedule": "constant"})
    run_in(tmp_path / "alone", job_of("test-modern", recipe={"schedule": "constant"}))
    resume(four, tmp_path, "tp", job)
    assert_close(last(tmp_path / "alone"), last(tmp_path / "straight"))


def assert_parts_are_of(whole: dict[str, torch.Tensor], parts: list[dict[str, TensorPart]]) -> None:
    """Every part is bit for bit what one process has there, and together the parts are the whole."""
    for name, tensor in whole.items():
        found = torch.full_like(tensor, torch.nan)
        for rank in parts:
            assert torch.equal(rank[name].values, tensor[rank[name].place]), name
            found[rank[name].place] = rank[name].values
        assert torch.equal(found, tensor), name


def initial_weights(job: TrainJob) -> dict[str, torch.Tensor]:
    """Return what one process starts with."""
    return {name: parameter.detach() for name, parameter in whole_model(job).named_parameters()}


@pytest.mark.parametrize("preset", ["test-gpt2", "test-modern", "test-moe"])
def test_two_ranks_start_as_one(two: RankPool, tmp_path: Path, preset: str) -> None:
    """Weights are drawn where they live, and are those of one process."""
    for strategy in STRATEGIES:
        job = make_job(preset, world_size=2, strategy=strategy)
        assert_parts_are_of(initial_weights(job), two.call(initial_parts, job, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["test-gpt2", "test-modern", "test-moe"])
def test_four_ranks_start_as_one(four: RankPool, tmp_path: Path, preset: str) -> None:
    """The same for four ranks, for two groups of two that split matrices, and for two machines with a copy each."""
    layouts: list[dict[str, Any]] = [
        {"strategy": "ddp"}, {"strategy": "fsdp"}, {"strategy": "fsdp", "nodes": 2, "hybrid_shard": True},
        {"strategy": "tp", "tp_size": 2},
    ]  # fmt: skip
    for layout in layouts:
        job = make_job(preset, world_size=4, **layout)
        assert_parts_are_of(initial_weights(job), four.call(initial_parts, job, tmp_path))


@pytest.mark.slow
def test_no_rank_ever_holds_the_whole(four: RankPool, tmp_path: Path) -> None:
    """While a model is built and filled, a rank allocates at most its part and 15 %; with ddp, the whole once."""
    shape = {"hidden_size": 128, "layers": 4, "intermediate_size": 512, "vocab_size": 2048, "heads": 4, "kv_heads": 4}
    for strategy, share in (("ddp", 1.0), ("fsdp", 0.25), ("tp", 0.26)):
        job = make_job("test-modern", shape, world_size=4, strategy=strategy)
        whole = sum(tensor.nbytes for tensor in initial_weights(job).values())
        for peak, own in four.call(peak_of_build, job, tmp_path):
            assert own <= peak <= 1.15 * own
            assert own <= share * whole


def test_each_rank_holds_its_part(two: RankPool, tmp_path: Path) -> None:
    """Sharding halves what a rank holds; so does splitting heads, hidden units and tokens, but for norms."""
    for strategy, least, most in (("ddp", 1.0, 1.0), ("fsdp", 0.49, 0.51), ("tp", 0.5, 0.51)):
        for held, total in two.call(count_held, job_of("test-modern", world_size=2, strategy=strategy), tmp_path):
            assert least <= held / total <= most


def test_work_on_whole_matrices_is_shared_out(two: RankPool) -> None:
    """Fewer matrices than ranks or more, rows that do not divide, a rank without any."""
    for count, rows, columns in ((1, 4, 3), (3, 5, 4), (2, 1, 6)):
        matrices = [torch.randn(rows, columns) for _ in range(count)]
        assert all(two.call(cubes, matrices))


@pytest.mark.slow
def test_bf16_and_recomputation_on_shards(two: RankPool, tmp_path: Path) -> None:
    """Autocast and activation checkpointing work on parts of a model too."""
    job = job_of("test-modern", precision="bf16", recipe={"checkpoint_activations": True})
    alone = run_in(tmp_path / "alone", job)
    for strategy in ("fsdp", "tp"):
        assert two.train(strategy, tmp_path / strategy, job)["val_loss"] == pytest.approx(alone["val_loss"], abs=2e-2)


class Slow(TokenWindows):
    """Windows that cost one rank 10 s by its own clock."""

    def batch(self, first_index: int, count: int) -> Batch:
        if os.environ["RANK"] == "1":
            clock = time.perf_counter

            def later() -> float:
                time.perf_counter = clock
                return clock() + 10

            time.perf_counter = later  # for the next look, with which the loop ends its measurement
        return super().batch(first_index, count)


def test_a_straggler_is_named(two: RankPool, tmp_path: Path) -> None:
    """Every fifty steps, by how much it is slower than the others."""
    job = replace(
        job_of("test-modern", recipe={"steps": 50}), train_sources=only(partial(Slow, [text()], 32, 7)), val_data=None
    )
    two.train("ddp", tmp_path, replace(job, micro_batch_size=0))
    (line,) = events(tmp_path, "straggler")
    assert (line["rank"], line["step"]) == (1, 49)
    assert line["factor"] > 1.5  # by far: the other ranks would have to take 5 s
    usual = StragglerDetector()
    assert not any(usual.add([1.0, 1.2, 1.4, 1.0]) for _ in range(120))


@pytest.mark.slow
def test_routers_stay_in_single_precision(two: RankPool, tmp_path: Path) -> None:
    """Where fsdp gathers blocks in bfloat16: near-ties decide the routing."""
    for found in two.call(gathered_dtypes, job_of("test-moe", strategy="fsdp", world_size=2), tmp_path):
        assert found == {"router": torch.float32, "experts": torch.bfloat16, "gradient": torch.float32}


@pytest.mark.parametrize("strategy", ["fsdp", "tp"])
def test_frozen_parameters_stay_as_they_are(two: RankPool, tmp_path: Path, strategy: str) -> None:
    """And have no gradient in any rank."""
    for unchanged, changed in two.call(
        train_half_frozen, job_of("test-gpt2", strategy=strategy, world_size=2), tmp_path
    ):
        assert unchanged
        assert changed


def test_what_cannot_be_cut_is_refused(tmp_path: Path) -> None:
    """Heads that do not divide; groups that do not fill a machine."""
    with pytest.raises(UsageError, match=r"model.kv_heads 2 is not divisible by tp_size 4"):
        check_divisible(make_job("test-modern").model.build().config, 4)
    with pytest.raises(UsageError, match="cannot be split into groups of tp_size 4"):
        run_in(tmp_path, replace(make_job(), world_size=6, strategy="tp", tp_size=4))


@pytest.mark.slow
@pytest.mark.parametrize("compiled", ["ddp", "fsdp", "tp"])
def test_compiled_blocks_train_alike(two: RankPool, tmp_path: Path, compiled: str) -> None:
    """torch.compile under each strategy: the same losses up to rounding."""
    if shutil.which("g++") is None:
        pytest.skip("torch.compile needs g++")
    job = job_of("test-modern")
    plain = two.train(compiled, tmp_path / "plain", job)
    fast = two.train(compiled, tmp_path / "compiled", replace(job, compile="on"))
    assert fast["val_loss"] == pytest.approx(plain["val_loss"], abs=1e-5)
    state = json.loads((tmp_path / "compiled" / "checkpoints" / "step-000005" / "state.json").read_text())
    assert state["compiled"] is True
