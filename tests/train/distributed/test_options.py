"""Where the options of a training run place it."""

from __future__ import annotations

from typing import Any

import pytest

from gptctl.train.distributed.options import DistributedOptions
from gptctl.train.planning.estimate import Layout
from gptctl.train.planning.plan_run import Arrangement


@pytest.mark.parametrize(
    ("given", "device"),
    [
        ({}, "auto"),
        ({"nproc_per_node": 2}, "cpu"),
        ({"nproc_per_node": 2, "device": "cuda"}, "cuda"),
        ({"gpus": 2}, "cuda"),
        ({"device": "cpu"}, "cpu"),
    ],
)
def test_plan_and_run_have_the_same_device(given: dict[str, Any], device: str) -> None:
    config = DistributedOptions(**given)
    assert (config.device_name(), config.on_cpu()) == (device, device == "cpu")
    arranged = Arrangement(Layout(), micro_batch_size=1, eval_batch_size=1)
    assert config.distributed(arranged)["device"] == device
