"""The numbers of a step stay on the device, travel as one tensor and come back by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gptctl.core.context import Context
from gptctl.core.run_folder import Run
from gptctl.train.setup import setup
from gptctl.train.step import train_step
from gptctl.train.step_sums import RankSums, StepSums
from gptctl.train.strategies.single import SingleDevice
from tests.train.jobs import make_job

CPU = torch.device("cpu")


def test_packed_and_reduced_is_the_same() -> None:
    """Flags become positive numbers; the seconds of each share keep their order."""
    sums = RankSums(CPU, 2)
    sums.add(torch.tensor(2.25), torch.tensor(3))
    sums.add(torch.tensor(0.25), torch.tensor(4))
    sums.squared_grad_norm = torch.tensor(0.25, dtype=torch.float64)
    sums.stop_requested, sums.write_failed, sums.share_seconds = True, True, [0.5, 1.5]
    packed = sums.pack()
    assert (packed.dtype, packed.shape) == (torch.float64, (7,))
    assert sums.all_reduce(SingleDevice(CPU)) == StepSums(2.5, 7, 0.25, 1, 1, [0.5, 1.5])


class Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts how often the host reads from the device: items, lists, and copies that wait."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return function(*args, **(kwargs or {}))


@contextmanager
def counted_reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reads]:
    """Count the reads inside a block. On the CPU, tolist() and numpy() do not pass through the dispatcher."""
    reads = Reads()
    for name in ("tolist", "numpy"):
        original = getattr(torch.Tensor, name)

        def read(tensor: torch.Tensor, *args: Any, original: Any = original) -> Any:
            reads.count += 1
            return original(tensor, *args)

        monkeypatch.setattr(torch.Tensor, name, read)
    with reads:
        yield reads
    monkeypatch.undo()


@pytest.mark.parametrize("micro_batch_size", [0, 2])
@pytest.mark.parametrize("preset", ["test-gpt2", "test-modern", "test-moe"])
def test_a_step_reads_from_the_device_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: str, micro_batch_size: int
) -> None:
    """With one micro-batch and with four, AdamW and Muon, documents and experts: loss, targets and norm together."""
    recipe = {"batch_size": 8, "document_mask": True}
    job = make_job(preset, {"end_of_text": 10}, recipe, micro_batch_size=micro_batch_size, log_every=100)
    state = setup(job, Run(tmp_path, "pretrain", {}), Context(), SingleDevice(CPU))
    try:
        train_step(state)
        micro_batches = 0
        loss = state.objective.loss

        def counted_loss(*args: Any) -> Any:
            nonlocal micro_batches
            micro_batches += 1
            return loss(*args)

        monkeypatch.setattr(state.objective, "loss", counted_loss)
        with counted_reads(monkeypatch) as reads:
            train_step(state)
        assert (state.progress.step, micro_batches, reads.count) == (2, 4 if micro_batch_size else 1, 1)
    finally:
        state.checkpoint_writer.close()
        state.monitor.close()
