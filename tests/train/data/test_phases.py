"""Phases: exact shares in each, and starts that a run of another length keeps where they were."""

from __future__ import annotations

import numpy as np

from gptctl.train.data.phases import MixturePhase, Phases, phase_starts

ANNEALED = (MixturePhase(0.0, (0.9, 0.1)), MixturePhase(0.8, (0.2, 0.8)))


def test_shares_are_exact_in_each_phase() -> None:
    """A phase has its own shares, from its first sample on."""
    phases = Phases(ANNEALED, phase_starts(ANNEALED, 1000))
    assert phases.starts == [0, 800]
    assert phases.counts(800).tolist() == [720, 80]
    assert phases.counts(1000).tolist() == [760, 240]
    assert np.bincount(phases.sources(800, 10)).tolist() == [2, 8]
    assert phases.sources(790, 20).tolist() == [*phases.sources(790, 10).tolist(), *phases.sources(800, 10).tolist()]
    assert phases.counts(1200).tolist() == [800, 400], "samples beyond the end are in the last phase"


def test_a_start_is_a_share_of_the_samples() -> None:
    """Rounded up, as decimals, which binary fractions would get wrong."""
    three = (*ANNEALED[:1], MixturePhase(0.55, (1, 1)), MixturePhase(0.57, (1, 1)))
    assert phase_starts(three, 100) == [0, 55, 57]
    assert phase_starts(three, 9) == [0, 5, 6]


def test_a_longer_run_keeps_phases_that_have_begun() -> None:
    """The samples that were read stay those that were read."""
    three = (*ANNEALED, MixturePhase(0.9, (0, 1)))
    begun = phase_starts(three, 1000)
    assert phase_starts(three, 1000, 850, begun) == begun
    assert phase_starts(three, 2000, 850, begun) == [0, 800, 1800]
    assert phase_starts(three, 2000, 700, begun) == [0, 1600, 1800]
    assert phase_starts(three, 820, 790, begun) == [0, 790, 790], "nor does a phase begin where samples were read"
