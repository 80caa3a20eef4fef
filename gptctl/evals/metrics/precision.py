"""How much of what was predicted as a class is that class: true positives / predictions."""

from __future__ import annotations

from gptctl.evals.scoring.confusion import Integers, Sums

KINDS = ("labels", "label_sets")


def fraction(sums: Sums) -> tuple[Integers, Integers]:
    """Give each class's fraction; a class that is never predicted has none."""
    return sums.tp, sums.predicted
