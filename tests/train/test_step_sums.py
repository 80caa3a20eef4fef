"""The numbers of a step travel as one tensor and come back by name."""

from __future__ import annotations

import torch

from gptctl.train.step_sums import StepSums
from gptctl.train.strategies.single import SingleDevice


def test_packed_and_unpacked_is_the_same() -> None:
    """Flags become positive numbers; the seconds of each share keep their order."""
    sums = StepSums(2.5, 7, 0.25, True, False, [0.5, 1.5])
    packed = sums.pack()
    assert (packed.dtype, packed.shape) == (torch.float64, (7,))
    assert StepSums.unpack(packed) == sums
    assert sums.all_reduce(SingleDevice(torch.device("cpu"))) == sums
