"""Every task has the form that its package documents."""

from __future__ import annotations

import pytest

from gptctl.core import plugins
from gptctl.evals import prediction_types, tasks
from gptctl.evals.tasks import Task


@pytest.mark.parametrize("name", plugins.names(tasks.PACKAGE))
def test_a_task_is_complete_and_its_prediction_type_exists(name: str) -> None:
    task = tasks.load(name)
    assert isinstance(task, Task)
    assert prediction_types.load(task.PREDICTION_TYPE)
