"""Batches on the device, read ahead: while a GPU trains on one, a thread reads the next one into pinned memory."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import torch

from gptctl.train.data.batch import Batch
from gptctl.train.data.data_source import DataSource


def should_read_ahead(device: torch.device) -> bool:
    """Return whether reading ahead helps. On the CPU a thread would take time from the training itself."""
    return device.type == "cuda"


class BatchReader:
    """Reads the batches of a training source.

    What is read ahead is a guess. A batch depends on its samples alone, so a wrong guess only costs time. One thread
    reads.
    """

    def __init__(self, source: DataSource, device: torch.device) -> None:
        self.source = source
        self.device = device
        self.thread: ThreadPoolExecutor | None = None
        if should_read_ahead(device):
            self.thread = ThreadPoolExecutor(1, "batch-reader", initializer=self.start_thread)
        self.ahead: tuple[range, Future[Batch]] | None = None

    def start_thread(self) -> None:
        """Let the thread pin memory for this rank's GPU, and not for the first one of the machine."""
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)

    def read(self, samples: range, following: range | None = None) -> Batch:
        """Return samples on the device, and begin to read the `following` ones.

        An error of the thread is raised here when its batch is wanted.
        """
        if self.thread is None:
            return self.load(samples).to(self.device)
        if self.ahead is not None and self.ahead[0] == samples:
            batch = self.ahead[1].result()
        else:
            batch = self.thread.submit(self.load, samples).result()
        self.ahead = (following, self.thread.submit(self.load, following)) if following else None
        return batch.to(self.device)

    def forget(self) -> None:
        """Drop what was read ahead, because the source has changed."""
        self.ahead = None

    def load(self, samples: range) -> Batch:
        """Read samples into main memory, pinned if the device is a GPU."""
        batch = self.source.batch(samples.start, len(samples))
        return batch.pin_memory() if self.device.type == "cuda" else batch

    def close(self) -> None:
        """End the thread, after what it is reading."""
        if self.thread is not None:
            self.thread.shutdown(cancel_futures=True)
