"""Learning-rate schedules at the points the papers name."""

from __future__ import annotations

import pytest

from gptctl.train.recipe import Recipe
from gptctl.train.schedule import lr_share


def shares(steps: int = 1000, **recipe: object) -> list[float]:
    """Give the whole schedule."""
    return [lr_share(Recipe.model_validate(recipe), step, steps) for step in range(steps)]


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
        assert recipe.lr * lr_share(recipe, s - 1, 100_000) == pytest.approx(paper, rel=1e-12)


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
