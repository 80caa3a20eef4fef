"""Read a file as the commands do, in this process."""

from __future__ import annotations

from pathlib import Path

from gptctl.io.input.blocks import ReadOptions, ReadResult
from gptctl.io.input.inputs import Inputs
from gptctl.io.input.read_task import join, read_task

OPTIONS = ReadOptions()


def read(path: str | Path, options: ReadOptions = OPTIONS) -> ReadResult:
    """Return what an INPUT argument holds."""
    return join([read_task(task, options) for task in Inputs((str(path),), options).tasks()])


def texts(path: str | Path, options: ReadOptions = OPTIONS) -> list[str]:
    """Return the texts that an INPUT argument holds."""
    return [str(text) for text in read(path, options).documents["text"].to_pylist()]
