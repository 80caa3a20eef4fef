"""Learning-rate schedules at the points the papers name, and batches that grow."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptctl.core.errors import UsageError
from gptctl.model.config import load_preset, preset_names
from gptctl.train.data.batch import Batch
from gptctl.train.data.token_windows import TokenWindows
from gptctl.train.recipe import MODERN, Recipe, apply_recipe
from gptctl.train.schedule import batch_size, lr_factor, samples_after, steps_for
from tests.train.fault_jobs import WithoutSome
from tests.train.jobs import make_job, only, run_in
from tests.train.test_faults import assert_equal, events, weights


def shares(steps: int = 1000, **recipe: object) -> list[float]:
    """Return the whole schedule."""
    return [lr_factor(Recipe.model_validate(recipe), step, steps) for step in range(steps)]


@pytest.mark.parametrize("name", ["cosine", "linear", "wsd", "constant", "noam"])
def test_warm_up_is_linear_to_the_peak(name: str) -> None:
    """After 100 steps the share is 1, and never more."""
    found = shares(schedule=name, warmup_steps=100)
    assert found[:100] == pytest.approx([(i + 1) / 100 for i in range(100)])
    assert max(found) == 1
    assert found[100:] == sorted(found[100:], reverse=True)


def test_noam_is_the_papers_formula() -> None:
    """width^-0.5 * min(s^-0.5, s * warmup^-1.5), section 5.3."""
    width, warmup = 512, 4000
    recipe = Recipe(schedule="noam", warmup_steps=warmup, lr=(width * warmup) ** -0.5)
    for s in (1, 100, 4000, 4001, 50_000):
        paper = width**-0.5 * min(s**-0.5, s * warmup**-1.5)
        assert recipe.lr * lr_factor(recipe, s - 1, 100_000) == pytest.approx(paper, rel=1e-12)


def test_ends() -> None:
    """Cosine and linear near their floor, half-way in the middle; wsd flat until its cool-down."""
    cosine, linear = (shares(schedule=name, warmup_steps=0, min_lr_share=0.1) for name in ("cosine", "linear"))
    assert cosine[500] == pytest.approx(0.55)
    assert linear[500] == pytest.approx(0.55)
    assert cosine[-1] == pytest.approx(0.1, abs=1e-4)
    assert linear[-1] == pytest.approx(0.1, abs=2e-3)
    wsd = shares(schedule="wsd", warmup_steps=10, cooldown_share=0.2, min_lr_share=0.0)
    assert wsd[799] == 1
    assert wsd[900] == pytest.approx(0.5)
    assert wsd[-1] == pytest.approx(1 / 200)


def test_cosine_is_the_papers_formula() -> None:
    """eta_min + (eta_max - eta_min) (1 + cos(pi t / T)) / 2 between the end of the warm-up and the last step."""
    recipe = Recipe(schedule="cosine", warmup_steps=20, min_lr_share=0.1)
    for step in (20, 50, 110, 199):
        expected = 0.1 + 0.9 * (1 + math.cos(math.pi * (step - 20) / 180)) / 2
        assert lr_factor(recipe, step, 200) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["cosine", "linear", "wsd", "constant", "noam"])
@pytest.mark.parametrize(("warmup", "steps"), [(0, 0), (0, 1), (1, 1), (5, 5), (9, 3), (0, 2), (3, 4)])
def test_corners(name: str, warmup: int, steps: int) -> None:
    """No warm-up, a warm-up as long as the run or longer, one step: above zero, at most the peak; past the end too."""
    recipe = Recipe.model_validate({"schedule": name, "warmup_steps": warmup, "min_lr_share": 0.1})
    for step in range(steps + 3):
        share = lr_factor(recipe, step, steps)
        assert 0 < share <= 1
        if step < warmup:
            assert share == (step + 1) / warmup or (name == "wsd" and share < (step + 1) / warmup)
    assert lr_factor(recipe, 0, max(steps, 1)) == pytest.approx(1 / max(warmup, 1))


def test_wsd_takes_the_smaller_rate_where_warm_up_and_cooldown_overlap() -> None:
    """A warm-up over 60 of 100 steps and a cooldown over the last 80 meet below the peak, without a jump."""
    found = shares(100, schedule="wsd", warmup_steps=60, cooldown_share=0.8, min_lr_share=0.0)
    up, down = ([(step + 1) / 60 for step in range(100)], [min(1.0, (100 - step) / 80) for step in range(100)])
    assert found == pytest.approx([min(pair) for pair in zip(up, down, strict=True)])
    assert max(found) < 1
    assert max(abs(later - earlier) for earlier, later in pairwise(found)) <= 1 / 60 + 1e-12


def test_the_floor_is_reached_and_kept() -> None:
    """At the planned end and behind it (a run that was extended): the floor, not less."""
    for name in ("cosine", "linear", "wsd"):
        recipe = Recipe.model_validate({"schedule": name, "warmup_steps": 10, "min_lr_share": 0.1})
        assert lr_factor(recipe, 100, 100) == pytest.approx(0.1)
    whole = Recipe(schedule="wsd", warmup_steps=0, cooldown_share=1.0, min_lr_share=0.0)
    assert [lr_factor(whole, step, 4) for step in range(4)] == [1.0, 0.75, 0.5, 0.25]
    none = Recipe(schedule="wsd", warmup_steps=0, cooldown_share=0.0, min_lr_share=0.0)
    assert [lr_factor(none, step, 4) for step in range(4)] == [1.0] * 4


@pytest.mark.parametrize("preset", [name for name in preset_names() if name.startswith("gpt3-")])
def test_gpt3s_recipe_in_tokens(preset: str) -> None:
    """Brown et al. 2020, "GPT-3", appendix B: 300 billion tokens, 375 million of warm-up, cosine to 260 billion."""
    recipe = Recipe.model_validate(load_preset(preset)["training"])
    assert samples_after(recipe, recipe.steps) * recipe.seq_len == pytest.approx(300e9, rel=1e-4)
    assert recipe.warmup_steps * recipe.batch_size * recipe.seq_len == pytest.approx(375e6, rel=0.01)
    total = samples_after(recipe, recipe.steps) / recipe.batch_size
    per_billion = total / 300
    assert lr_factor(recipe, 259 * per_billion, total) > 0.1 + 1e-6
    assert lr_factor(recipe, 260.1 * per_billion, total) == lr_factor(recipe, 299 * per_billion, total)
    assert lr_factor(recipe, 299 * per_billion, total) == pytest.approx(0.1, rel=1e-12)
    assert batch_size(recipe, 0) * recipe.seq_len == 32_768


def test_modern_and_paper() -> None:
    """One word lays the modern recipe over a paper's; batch, length, steps and warm-up stay the preset's."""
    paper = load_preset("gpt2")["training"]
    assert apply_recipe(paper, "preset", "gpt2") == apply_recipe(paper, "paper", "gpt2") == paper
    modern = Recipe.model_validate(apply_recipe(paper, "modern", "gpt2"))
    assert (modern.optimizer, modern.schedule, modern.min_lr_share) == ("muon", "wsd", 0)
    for name in ("batch_size", "seq_len", "steps", "warmup_steps"):
        assert getattr(modern, name) == paper[name]
    own = load_preset("char-modern")["training"]
    assert apply_recipe(own, "modern", "char-modern") == apply_recipe(own, "preset", "char-modern") == own
    with pytest.raises(UsageError, match="no published recipe for char-modern"):
        apply_recipe(own, "paper", "char-modern")
    assert set(MODERN) <= set(Recipe.model_fields)


RAMP = {"batch_size": 12, "ramp_start_batch": 2, "ramp_tokens": 100 * 32, "seq_len": 32}


def test_a_ramp_is_linear_in_tokens_in_multiples_of_its_start() -> None:
    """From 2 to 12 sequences over 100 sequences' tokens, then 12."""
    recipe = Recipe.model_validate(RAMP)
    sizes = [batch_size(recipe, samples) for samples in range(0, 140)]
    assert sizes[0] == 2
    assert sizes[99] == 10
    assert set(sizes[100:]) == {12}
    assert all(size == (2 + samples // 10) // 2 * 2 for samples, size in enumerate(sizes[:100]))
    assert {batch_size(Recipe(batch_size=12), samples) for samples in (0, 5, 10**9)} == {12}
    assert batch_size(Recipe.model_validate(RAMP | {"batch_size": 2}), 0) == 2


def test_gpt3s_ramp() -> None:
    """32k tokens at first, 0.5M after 4 billion; so many updates as the integral says."""
    recipe = Recipe(batch_size=256, seq_len=2048, ramp_start_batch=16, ramp_tokens=4 * 10**9)
    assert batch_size(recipe, 0) * 2048 == 32_768
    assert batch_size(recipe, 2 * 10**9 // 2048) * 2048 == pytest.approx(2**18, rel=0.1)
    assert batch_size(recipe, 4 * 10**9 // 2048 + 1) * 2048 == 2**19
    ramped = steps_for(recipe, 4 * 10**9 // 2048)
    # between the ramp without rounding, where d steps = d tokens / batch, and one rounded down by a whole start
    ideal = 4e9 / (2**19 - 2**15) * math.log(2**19 / 2**15)
    assert ideal <= ramped <= 1.2 * ideal


@given(st.integers(1, 40), st.integers(0, 12), st.integers(0, 5000), st.integers(0, 300))
def test_steps_and_samples_agree(full: int, start: int, ramp_tokens: int, steps: int) -> None:
    """They are the sums of the batches, and each other's inverse."""
    recipe = Recipe(batch_size=full, ramp_start_batch=start, ramp_tokens=ramp_tokens, seq_len=8)
    samples, sizes = 0, []
    for _ in range(steps):
        sizes.append(batch_size(recipe, samples))
        samples += sizes[-1]
    assert samples_after(recipe, steps) == samples
    assert steps_for(recipe, samples) == steps
    assert sizes == sorted(sizes)
    assert all(1 <= size <= full for size in sizes)
    if samples:
        assert steps_for(recipe, samples - sizes[-1] + 1) == steps


class Recording(TokenWindows):
    """Windows that write down which samples are asked for."""

    def __init__(self, path: Path) -> None:
        super().__init__(WithoutSome(9999, 9999).parts, 32, 7)
        self.path = path

    def batch(self, first_index: int, count: int) -> Batch:
        """Note and give a batch."""
        with self.path.open("a") as file:
            file.write(f"{first_index} {count}\n")
        return super().batch(first_index, count)


def ramp_job(path: Path, **more: Any) -> Any:
    """Describe a run of 24 updates with a ramp."""
    recipe = RAMP | {"steps": 24, "schedule": "linear", "warmup_steps": 3, "min_lr_share": 0.0}
    job = make_job(recipe=recipe, model={"dropout": 0.1}, log_every=1, **more)
    return replace(job, train_sources=only(partial(Recording, path)))


def test_a_ramped_run_reads_each_sample_once_and_resumes_exactly(tmp_path: Path) -> None:
    """Batches follow on one another; stopped in the ramp and resumed, every bit as without."""
    metrics = run_in(tmp_path / "straight", ramp_job(tmp_path / "read"))
    read = [tuple(map(int, line.split())) for line in (tmp_path / "read").read_text().splitlines()]
    assert [first for first, _ in read] == [sum(count for _, count in read[:i]) for i in range(len(read))]
    recipe = Recipe.model_validate(RAMP)
    assert [count for _, count in read] == [batch_size(recipe, first) for first, _ in read]
    assert (metrics["steps"], metrics["tokens"]) == (24, samples_after(recipe, 24) * 32)
    run_in(tmp_path / "halves", ramp_job(tmp_path / "first", max_tokens=90 * 32))
    assert run_in(tmp_path / "halves", ramp_job(tmp_path / "second"))["steps"] == 24
    both = (tmp_path / "first").read_text() + (tmp_path / "second").read_text()
    assert both == (tmp_path / "read").read_text()
    stopped = events(tmp_path / "halves", "resumed")[0]["step"]
    assert samples_after(recipe, stopped - 1) < 90 <= samples_after(recipe, stopped)


def test_under_a_ramp_the_learning_rate_follows_the_samples(tmp_path: Path) -> None:
    """Linear from the peak to zero over the samples, not the steps; bit-equal after kill and resume in the ramp."""
    run_in(tmp_path / "straight", ramp_job(tmp_path / "read"))
    recipe, total = Recipe.model_validate(RAMP), samples_after(Recipe.model_validate(RAMP), 24) / 12
    lines = events(tmp_path / "straight", "step")
    seen = [(samples_after(recipe, line["step"] - 1) / 12, line["lr"]) for line in lines]
    assert sum(3 <= done < 100 / 12 for done, _ in seen) > 5  # behind the warm-up, still on the ramp
    for done, lr in seen:
        expected = (1 - (done - 3) / (total - 3)) if done >= 3 else min(1, (done + 1) / 3)
        assert lr == pytest.approx(2e-3 * expected)
    job = ramp_job(tmp_path / "again", checkpoint_every=7, keep_checkpoints=9)
    run_in(tmp_path / "resumed", job)
    for step in (14, 21, 24):  # as after a kill behind step 7
        for path in (tmp_path / "resumed" / "checkpoints" / f"step-{step:06d}").iterdir():
            path.unlink()
    run_in(tmp_path / "resumed", job)
    assert events(tmp_path / "resumed", "resumed")[0]["step"] == 7
    assert_equal(weights(tmp_path / "straight", 24), weights(tmp_path / "resumed", 24))


@pytest.mark.slow
def test_a_ramp_must_start_with_a_sequence_for_each_rank(tmp_path: Path) -> None:
    """Exit 2, before anything is written."""
    with pytest.raises(UsageError, match="a batch of 1 sequences cannot be split over 2"):
        run_in(tmp_path, make_job(recipe=RAMP | {"ramp_start_batch": 1}, world_size=2))
