"""How much of a class was found: true positives / gold rows."""

from __future__ import annotations

from gptctl.evals.scoring.confusion import Integers, Sums

KINDS = ("labels", "label_sets")


def fraction(sums: Sums) -> tuple[Integers, Integers]:
    """Give each class's fraction; a class without gold rows has none."""
    return sums.tp, sums.support
