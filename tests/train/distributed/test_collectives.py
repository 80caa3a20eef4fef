"""Collectives: what buckets hold at a time, and where norms are computed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from gptctl.train.distributed import collectives
from tests.fake_devices import NoDoubleOnMps, fake_devices


def test_few_buckets_exist_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that summing gradients does not need the memory of all gradients a second time."""
    monkeypatch.setattr(collectives, "BUCKET_BYTES", 4 * 100)
    running: list[Tensor] = []
    most = 0

    class Doubling:
        def __init__(self, flat: Tensor) -> None:
            nonlocal most
            self.flat = flat
            running.append(flat)
            most = max(most, len(running))

        def wait(self) -> None:
            self.flat.mul_(2)
            running[:] = [flat for flat in running if flat is not self.flat]

    tensors = [torch.full((rows, 10), float(rows)) for rows in (3, 20, 1, 7, 12, 11, 2, 30)]
    collectives.run_in_buckets(tensors, Doubling)
    assert [tensor.unique().item() for tensor in tensors] == [6, 40, 2, 14, 24, 22, 4, 60]
    assert most == 2


def test_norms_work_on_apple_gpus() -> None:
    """They have no double precision."""
    with fake_devices(), NoDoubleOnMps():
        gradients = [torch.empty(3, 4, device="mps"), torch.empty(3, device="mps")]
        norm: Any = collectives.squared_norm(gradients)
    assert (norm.device.type, norm.dtype) == ("mps", torch.float32)
