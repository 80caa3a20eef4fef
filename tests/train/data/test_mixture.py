"""Mixtures of data sources: weights are kept, each source has its own order, one source is itself, runs resume."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gptctl.core import atomic
from gptctl.train.data import batch_reader
from gptctl.train.data.data_source import TrainSource
from gptctl.train.data.mixture import Mixture, ValSources, open_sources
from gptctl.train.data.phases import MixturePhase, Phases
from gptctl.train.data.token_windows import TokenWindows
from gptctl.train.job import TrainJob
from gptctl.train.planning.time_budget import TimeBudget
from tests.train.jobs import assert_equal, events, make_job, run_in, weights, windows, windows_of
from tests.train.rank_pool import RankPool

PHASES = (MixturePhase(0.0, (0.75, 0.25)), MixturePhase(0.6, (0.1, 0.9)))


def numbered(first: int, count: int, seq_len: int = 8) -> TokenWindows:
    """Return windows of consecutive numbers, which tell the source and the window."""
    return TokenWindows([np.arange(first, first + count * seq_len + 1, dtype=np.uint32)], seq_len, seed=5)


def two() -> Mixture:
    """Mix two sources, from sample 200 on by other weights."""
    return Mixture([numbered(0, 40), numbered(100_000, 700)], Phases(PHASES, [0, 200]))


def test_a_single_source_is_read_as_it_is() -> None:
    source = open_sources([TrainSource(partial(numbered, 0, 40))], (), ())
    assert isinstance(source, TokenWindows)
    assert torch.equal(windows_of(source.batch(7, 50)), windows_of(numbered(0, 40).batch(7, 50)))


def test_each_source_has_its_share_and_its_own_order() -> None:
    """Over epochs of the smaller source, and across phases."""
    mixture = two()
    rows = windows_of(mixture.batch(0, 400))
    is_first = rows[:, 0] < 100_000
    assert (is_first[:200].sum(), is_first[200:].sum()) == (150, 20)
    from_first, from_second = rows[is_first], rows[~is_first]
    assert torch.equal(from_first, windows_of(numbered(0, 40).batch(0, len(from_first))))
    assert torch.equal(from_second, windows_of(numbered(100_000, 700).batch(0, len(from_second))))
    assert mixture.samples_per_epoch == sum(source.samples_per_epoch for source in mixture.sources)


@given(st.integers(0, 300), st.integers(1, 50))
def test_batches_do_not_depend_on_how_they_are_cut(first: int, count: int) -> None:
    """One sample at a time or together, by another object."""
    together = windows_of(two().batch(first, count))
    again = two()
    assert torch.equal(together, torch.cat([windows_of(again.batch(first + i, 1)) for i in range(count)]))


def test_evaluation_reads_every_sample_of_every_source_once() -> None:
    """For any number of readers."""
    sources = {"a": numbered(0, 40), "b": numbered(100_000, 70)}
    found = [
        row
        for rank in range(3)
        for batch in ValSources(sources).sequential(16, rank, 3)
        for row in windows_of(batch)[:, 0].tolist()
    ]
    expected = [
        row
        for source in sources.values()
        for batch in source.sequential(16)
        for row in windows_of(batch)[:, 0].tolist()
    ]
    assert sorted(found) == sorted(expected)


def open_two() -> ValSources:
    """Open two val splits."""
    return ValSources({"code": windows("val", 32, 7), "prose": windows("train", 32, 7)})


def mixed_job(**changes: Any) -> TrainJob:
    """Describe a run of two sources in two phases."""
    opened = (partial(windows, "train", 32, 7), partial(windows, "val", 32, 8))
    sources = tuple(TrainSource(part, name) for part, name in zip(opened, ("code", "prose"), strict=True))
    job = make_job(recipe={"schedule": "constant"}, precision="fp32")
    return replace(job, **{"train_sources": sources, "phases": PHASES, "val_data": open_two, **changes})


def test_a_run_reports_each_source(tmp_path: Path) -> None:
    """Tokens to the sample, epochs, and a val loss of its own; the whole val loss is that of all targets."""
    metrics = run_in(tmp_path, mixed_job(eval_every=10))
    code, prose = metrics["sources"]
    samples = (81 + 7, 27 + 65)  # of 108 in the first phase and 72 in the second
    assert (code["tokens"], prose["tokens"]) == (samples[0] * 32, samples[1] * 32)
    assert code["tokens"] + prose["tokens"] == metrics["tokens"] == 30 * 6 * 32
    sizes = [source.open().samples_per_epoch for source in mixed_job().train_sources]
    assert [code["epochs"], prose["epochs"]] == [round(n / size, 4) for n, size in zip(samples, sizes, strict=True)]
    targets = (4_000 - 1, 36_000 - 1)
    mean = (code["val_loss"] * targets[0] + prose["val_loss"] * targets[1]) / sum(targets)
    assert metrics["val_loss"] == pytest.approx(mean)
    assert [line["val_loss/code"] for line in events(tmp_path, "eval")][-1] == code["val_loss"]
    assert len(events(tmp_path, "eval")) == 3


def test_a_run_on_a_mixture_resumes_exactly(tmp_path: Path) -> None:
    """Two sources: stopped half way and resumed, every bit as without."""
    job = mixed_job(phases=PHASES[:1])
    straight = run_in(tmp_path / "straight", job)
    run_in(tmp_path / "halves", replace(job, max_tokens=13 * 6 * 32))
    assert run_in(tmp_path / "halves", job)["sources"] == straight["sources"]
    assert_equal(weights(tmp_path / "straight"), weights(tmp_path / "halves"))


def test_a_longer_run_stays_in_a_phase_that_has_begun(tmp_path: Path) -> None:
    """The first 108 of 180 samples are in the first phase, and no sample of a source is read twice or left out."""
    run_in(tmp_path, mixed_job())
    job = mixed_job()
    longer = run_in(tmp_path, replace(job, recipe=job.recipe.model_copy(update={"steps": 40})))
    assert [source["tokens"] for source in longer["sources"]] == [(81 + 13) * 32, (27 + 119) * 32]


@pytest.mark.parametrize("reads_ahead", [False, True])
@pytest.mark.slow
def test_phases_follow_a_total_that_is_planned_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads_ahead: bool
) -> None:
    """At step 4 of 30 the total becomes 15, so the second phase begins at sample 54 of 90; resumed, it does the same."""
    monkeypatch.setattr(batch_reader, "should_read_ahead", lambda device: reads_ahead)
    job = mixed_job(time_budget=TimeBudget(1.0, 0.0, interval=1000), checkpoint_every=3)
    job = replace(job, recipe=job.recipe.model_copy(update={"warmup_steps": 0}), keep_checkpoints=9)
    (tmp_path / "straight").mkdir()
    atomic.write_json(tmp_path / "straight" / "plan.json", {"totals": [(4, 15), (12, 14)]})
    straight = run_in(tmp_path / "straight", job)
    assert [source["tokens"] for source in straight["sources"]] == [(41 + 3) * 32, (13 + 27) * 32]
    for kept in (12, 3):
        shutil.rmtree(tmp_path / "resumed", ignore_errors=True)
        shutil.copytree(tmp_path / "straight", tmp_path / "resumed")
        for folder in (tmp_path / "resumed" / "checkpoints").glob("step-*"):
            if int(folder.name.removeprefix("step-")) > kept:
                shutil.rmtree(folder)
        assert run_in(tmp_path / "resumed", job)["sources"] == straight["sources"]
        assert_equal(weights(tmp_path / "straight", 14), weights(tmp_path / "resumed", 14))


@pytest.mark.slow
def test_two_ranks_train_as_one(two: RankPool, tmp_path: Path) -> None:
    """The same samples of each source, and the same losses."""
    compare(two, tmp_path)


@pytest.mark.slow
def test_four_ranks_train_as_one(four: RankPool, tmp_path: Path) -> None:
    """As two."""
    compare(four, tmp_path)


def compare(ranks: RankPool, folder: Path) -> None:
    """Train alone and together."""
    job = mixed_job(eval_every=10)
    alone, together = run_in(folder / "alone", job), ranks.train("ddp", folder / "together", job)
    for one, other in zip(alone["sources"], together["sources"], strict=True):
        assert other == one | {"val_loss": pytest.approx(one["val_loss"], abs=1e-5)}
    assert together["val_loss"] == pytest.approx(alone["val_loss"], abs=1e-5)
    assert torch.allclose(
        weights(folder / "alone")["embedding.weight"][:256],
        weights(folder / "together")["embedding.weight"][:256],
        atol=1e-5,
    )
