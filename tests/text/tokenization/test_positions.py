"""Positions of tasks in characters, and where val and test begin."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from gptctl.executors import Executor, serial
from gptctl.io.dataset import stream
from gptctl.io.input.blocks import Block, ReadOptions, ShardTask
from gptctl.text.tokenization.positions import Positions


def tasks() -> Iterator[ShardTask]:
    """Two tasks, of 6 and 4 characters."""
    for number, texts in enumerate((["né", "abcd"], ["", "日本語。"])):
        ids = pa.array([f"{number}:{row}" for row in range(2)], pa.string())
        table = pa.table({"id": ids, "text": pa.array(texts, pa.large_string()), "source": ids})
        yield ShardTask(number, (Block("documents", "-", data=stream.to_bytes(table)),))


def test_characters_of_tasks() -> None:
    positions = Positions.measure(ReadOptions(), tasks, Executor(serial.run, 1))
    assert positions == Positions((0, 6), 10)
    assert [positions.first_character(task) for task in (0, 1)] == [0, 6]
    assert positions.cuts(val=0.2, test=0.1) == (7, 9)


def test_without_measuring() -> None:
    assert Positions().first_character(3) == 0
