"""Positions of shard tasks in the input, counted in characters, for splits by position."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from gptctl.executors import Executor
from gptctl.io.input.blocks import ReadOptions, ShardTask
from gptctl.io.input.read_task import read_task


@dataclass(frozen=True)
class CountCharacters:
    """Counts the characters of a task, in a worker."""

    options: ReadOptions

    def __call__(self, task: ShardTask) -> int:
        """Read a task and return their number."""
        return int(pc.sum(pc.utf8_length(read_task(task, self.options)[0]["text"])).as_py() or 0)


@dataclass(frozen=True)
class Positions:
    """The position of the first character of each task, and the number of characters of the input.

    Without arguments, nothing was measured.
    """

    first_characters: tuple[int, ...] = ()
    characters: int = 0

    @classmethod
    def measure(cls, options: ReadOptions, tasks: Callable[[], Iterator[ShardTask]], executor: Executor) -> Positions:
        """Read all tasks to count their characters."""
        ends = np.cumsum([0, *executor.map(CountCharacters(options), tasks())]).tolist()
        return cls(tuple(ends[:-1]), ends[-1])

    def first_character(self, task: int) -> int:
        """Return the position of a task, or 0 if it was not measured."""
        return self.first_characters[task] if self.first_characters else 0

    def cuts(self, val: float, test: float) -> tuple[int, int]:
        """Return the positions at which val and test begin, for their shares."""
        return int(self.characters * (1 - val - test)), int(self.characters * (1 - test))
