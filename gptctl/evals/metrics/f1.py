"""The harmonic mean of precision and recall: 2 true positives / (predictions + gold rows).

Macro-F1 is the mean of the classes' F1, not the harmonic mean of macro precision and macro recall
(Opitz and Burst 2019, "Macro F1 and Macro F1", arXiv:1911.03347).
"""

from __future__ import annotations

from gptctl.evals.scoring.confusion import Integers, Sums

KINDS = ("labels", "label_sets")


def fraction(sums: Sums) -> tuple[Integers, Integers]:
    """Give each class's fraction; a class that is neither predicted nor in gold has none."""
    return 2 * sums.tp, sums.predicted + sums.support
