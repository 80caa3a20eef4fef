"""Every metric has one of the forms that its package documents."""

from __future__ import annotations

import pytest

from gptctl.core import plugins
from gptctl.core.errors import UsageError
from gptctl.evals import metrics, prediction_types
from gptctl.evals.metrics import AdditiveMetric, CountsMetric, FractionMetric, Metric

NAMES = plugins.names(metrics.PACKAGE)


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_has_exactly_one_form(name: str) -> None:
    metric = metrics.load(name)
    assert isinstance(metric, Metric)
    additive = isinstance(metric, AdditiveMetric)
    forms = (isinstance(metric, FractionMetric), isinstance(metric, CountsMetric) and not additive, additive)
    assert sum(forms) == 1


@pytest.mark.parametrize("name", NAMES)
def test_its_prediction_types_exist(name: str) -> None:
    assert set(metrics.load(name).PREDICTION_TYPES) <= set(plugins.names(prediction_types.PACKAGE))


def test_lower_is_better_for_losses_only() -> None:
    lower = {name for name in NAMES if metrics.lower_is_better(name)}
    assert {"loss", "perplexity", "bits_per_byte", "byte_perplexity", "ece", "brier", "nll", "hamming_loss"} == lower
    assert not metrics.lower_is_better("per_class.a.recall")


def test_an_unsuitable_metric_is_refused_with_the_suitable_ones() -> None:
    with pytest.raises(UsageError, match="bleu is not defined for lm scores") as caught:
        metrics.select(("loss", "bleu"), "lm_scores")
    assert caught.value.hint == "metrics for such rows: bits_per_byte, byte_perplexity, loss, perplexity"
