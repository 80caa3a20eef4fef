"""Reading ahead: the same batches, whatever was guessed; errors where a batch is wanted; no thread that stays."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gptctl.core.errors import DataError
from gptctl.train.data import batch_reader
from gptctl.train.data.batch import Batch
from gptctl.train.data.batch_reader import BatchReader
from gptctl.train.data.token_windows import TokenWindows
from tests.train.jobs import assert_equal, events, make_job, only, run_in, text, weights

CPU = torch.device("cpu")


@pytest.fixture
def read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read ahead on the CPU too."""
    monkeypatch.setattr(batch_reader, "should_read_ahead", lambda device: True)


class Watched(TokenWindows):
    """Windows that note who reads which samples; sample 40 cannot be read."""

    def __init__(self) -> None:
        super().__init__([text()], 32, 7)
        self.reads: list[tuple[int, str]] = []

    def batch(self, first_index: int, count: int) -> Batch:
        self.reads.append((first_index, threading.current_thread().name))
        if first_index <= 40 < first_index + count:
            raise DataError("sample 40 is damaged")
        return super().batch(first_index, count)


@pytest.mark.usefixtures("read_ahead")
def test_right_and_wrong_guesses_give_the_same_batches() -> None:
    """Each batch is read once, in one thread; a wrong guess is read in vain, and its error is nobody's."""
    source = Watched()
    reader = BatchReader(source, CPU)
    plan = [(range(4), range(4, 8)), (range(4, 8), range(36, 44)), (range(8, 10), None), (range(10, 13), range(36, 44))]
    for samples, following in plan:
        expected = windows_of(samples)
        assert torch.equal(reader.read(samples, following).input_ids, expected)
    assert [first for first, _ in source.reads[:5]] == [0, 4, 36, 8, 10]
    assert {name for _, name in source.reads} == {"batch-reader_0"}
    with pytest.raises(DataError, match="sample 40"):
        reader.read(range(36, 44))
    reader.close()
    assert not any(thread.name.startswith("batch-reader") for thread in threading.enumerate())


def windows_of(samples: range) -> torch.Tensor:
    """Return the inputs of some samples."""
    return TokenWindows([text()], 32, 7).batch(samples.start, len(samples)).input_ids


def test_the_cpu_reads_when_a_batch_is_wanted() -> None:
    """Without a thread, nothing is read ahead."""
    source = Watched()
    BatchReader(source, CPU).read(range(4), range(4, 8))
    assert source.reads == [(0, threading.current_thread().name)]


def test_a_run_that_reads_ahead_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch ramp, micro-batches, stopped and resumed: every bit as without reading ahead."""
    job = make_job(
        model={"dropout": 0.1},
        recipe={"steps": 12, "ramp_start_batch": 2, "ramp_tokens": 600, "schedule": "constant"},
        micro_batch_size=2,
    )
    run_in(tmp_path / "straight", job)
    monkeypatch.setattr(batch_reader, "should_read_ahead", lambda device: True)
    run_in(tmp_path / "halves", replace(job, max_tokens=700))
    run_in(tmp_path / "halves", job)
    assert events(tmp_path / "halves", "resumed")
    assert_equal(weights(tmp_path / "straight", 12), weights(tmp_path / "halves", 12))
    assert not any(thread.name.startswith("batch-reader") for thread in threading.enumerate())


@pytest.mark.usefixtures("read_ahead")
def test_an_error_of_the_thread_ends_the_run(tmp_path: Path) -> None:
    """It is raised in the loop, with its own class and message."""
    job = replace(make_job(), train_sources=only(Watched), val_data=None)
    with pytest.raises(DataError, match="sample 40"):
        run_in(tmp_path, job)
    assert not any(thread.name.startswith("batch-reader") for thread in threading.enumerate())
