"""F1, the harmonic mean of precision and recall: 2 true positives / (predictions + gold rows).

Macro-F1 is the mean of the classes' F1, not the harmonic mean of macro precision and macro recall
(Opitz and Burst 2019, "Macro F1 and Macro F1", arXiv:1911.03347).
"""

from __future__ import annotations

from gptctl.evals.scoring.averages import Fraction
from gptctl.evals.scoring.confusion import ClassCounts

PREDICTION_TYPES = ("labels", "multilabel")


def class_fraction(counts: ClassCounts) -> Fraction:
    """Return the fraction of each class; it is 0/0 for a class that is neither predicted nor a gold label."""
    return 2 * counts.tp, counts.predicted + counts.support
