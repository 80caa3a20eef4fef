"""The choice of size and recipe: the fit's own optimum, budgets that only grow, and recipes that training accepts."""

from __future__ import annotations

import itertools

import pytest

from gptctl.train.planning.compute_optimal import (
    candidates,
    choose,
    effective_tokens,
    for_size,
    for_tokens,
    optimal_tokens,
    predicted_loss,
)

VOCAB = 8192
PLENTY = 10**15


def test_candidates_grow_in_size_and_cost() -> None:
    """Each candidate has more parameters and costs more per token than the one before."""
    found = candidates(VOCAB, 2_000_000)
    assert 8 <= len(found) <= 13
    for smaller, larger in itertools.pairwise(found):
        assert smaller.parameters < larger.parameters
        assert smaller.flops_per_token < larger.flops_per_token
    assert len(set(found)) == len(found)  # keys of a table of speeds


def test_recipes_train_the_tokens_asked_for() -> None:
    """A recipe has whole steps, ends with a learning rate of zero, and trains the tokens to half a step."""
    for tokens in (100_000, 2_000_000, 300_000_000, 20_000_000_000):
        for candidate in candidates(VOCAB, tokens):
            recipe = candidate.recipe
            assert abs(candidate.tokens - tokens) <= max(recipe.batch_size * recipe.seq_len, tokens * 0.01)
            assert recipe.seq_len == candidate.model.max_seq_len
            assert recipe.warmup_steps < recipe.steps * (1 - recipe.cooldown_share) or recipe.steps < 5
            assert recipe.min_lr_share == 0
            assert 0.8 <= recipe.momentum <= 0.95


def test_longer_runs_have_larger_batches_and_more_momentum() -> None:
    """Batch and momentum never fall with the tokens, and both change between a minute and a day."""
    recipes = [candidates(VOCAB, 10**power)[1].recipe for power in range(5, 11)]
    batches = [recipe.batch_size * recipe.seq_len for recipe in recipes]
    momenta = [recipe.momentum for recipe in recipes]
    assert batches == sorted(batches)
    assert momenta == sorted(momenta)
    assert batches[0] < batches[-1]
    assert momenta[0] < momenta[-1]


def test_repeated_tokens_are_worth_less() -> None:
    """An epoch more never hurts, is worth less than the one before, and one epoch counts in full."""
    assert effective_tokens(500, 1000) == 500
    assert effective_tokens(1000, 1000) == 1000
    worth = [effective_tokens(1000 * epochs, 1000) for epochs in range(1, 60)]
    gains = [later - earlier for earlier, later in itertools.pairwise(worth)]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] == pytest.approx(1000, rel=0.05)
    assert worth[-1] < 17_000


def test_loss_falls_with_size_and_tokens() -> None:
    """More parameters and more tokens lower the loss; fewer unique tokens raise it."""
    loss = predicted_loss(10**6, 10**7, PLENTY)
    assert predicted_loss(2 * 10**6, 10**7, PLENTY) < loss
    assert predicted_loss(10**6, 2 * 10**7, PLENTY) < loss
    assert predicted_loss(10**6, 10**7, 10**6) > loss


def test_optimal_tokens_are_the_minimum_at_fixed_computation() -> None:
    """With N D fixed, another ratio of size and tokens has a higher loss."""
    for parameters in (10**6, 10**8):
        tokens = optimal_tokens(parameters)
        best = predicted_loss(parameters, tokens, PLENTY)
        for factor in (0.5, 0.9, 1.1, 2.0):
            assert predicted_loss(round(parameters * factor), tokens / factor, PLENTY) > best


def test_more_time_and_faster_machines_choose_larger_models() -> None:
    """The choice grows with time, and is the minimum of the expected losses."""
    speeds = {candidate: 2e10 / candidate.flops_per_token for candidate in candidates(VOCAB, 2_000_000)}
    chosen = [choose(speeds, 60.0 * minutes, PLENTY) for minutes in (1, 10, 100, 1000)]
    sizes = [candidate.parameters for candidate in chosen]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]
    losses = [predicted_loss(one.parameters, speeds[one] * 600, PLENTY) for one in speeds]
    assert predicted_loss(chosen[1].parameters, chosen[1].tokens, PLENTY) == pytest.approx(min(losses), rel=1e-3)


def test_little_text_chooses_no_smaller_model() -> None:
    """Where the text repeats many times, time goes into fewer tokens of a larger model."""
    speeds = {candidate: 2e10 / candidate.flops_per_token for candidate in candidates(VOCAB, 2_000_000)}
    assert choose(speeds, 36_000, 500_000).parameters >= choose(speeds, 36_000, PLENTY).parameters


def test_size_and_tokens_are_the_same_dial() -> None:
    """The nearest size is found, and its tokens lead back to it."""
    for parameters in (1_500_000, 20_000_000, 124_000_000):
        candidate = for_size(parameters, VOCAB)
        assert 0.6 < candidate.model.parameters() / parameters < 1.6
        assert for_tokens(candidate.tokens, VOCAB).model.layers == candidate.model.layers
    assert for_size(20_000_000, VOCAB, 5_000_000).tokens == pytest.approx(5_000_000, rel=0.01)
