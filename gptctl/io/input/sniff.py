"""Look at the first record of an input, to see what its rows are."""

from __future__ import annotations

from gptctl.core.errors import DataError
from gptctl.io.input.blocks import ReadOptions
from gptctl.io.input.inputs import Inputs
from gptctl.io.input.read_task import read_task


def columns(path: str, text_column: str) -> list[str]:
    """List the columns of the first document whose text stands in `text_column`; none where there is no such document.

    The text is listed as "text". Raises UsageError (2) for a missing path.
    """
    options = ReadOptions(text_column=text_column)
    try:
        for task in Inputs((path,), options).tasks(limit=1):
            table, _ = read_task(task, options)
            if len(table):
                return [str(name) for name in table.column_names]
    except DataError:
        return []
    return []


def choices_beside(path: str, text_column: str) -> str | None:
    """Return the column of contexts where the first record is one of multiple choice, else None.

    It is called "context" unless another is named. A stream is not looked at: it can be read only once.
    """
    for name in ("context", "text") if text_column == "text" else (text_column,):
        if path != "-" and "choices" in columns(path, name):
            return name
    return None
