"""Every prediction type has the form that its package documents."""

from __future__ import annotations

import pytest

from gptctl.core import plugins
from gptctl.evals import metrics, prediction_types
from gptctl.evals.prediction_types import PredictionType, group_ids


@pytest.mark.parametrize("name", plugins.names(prediction_types.PACKAGE))
def test_a_type_is_complete_and_its_default_metrics_are_defined_for_it(name: str) -> None:
    plugin = prediction_types.load(name)
    assert isinstance(plugin, PredictionType)
    assert metrics.select(plugin.DEFAULT_METRICS, name)


def test_groups_need_an_id_in_every_row() -> None:
    assert group_ids([{"group_id": 1}, {"group_id": "x"}]) == [1, "x"]
    assert group_ids([{"group_id": 1}, {}]) is None
    assert group_ids([]) is None
