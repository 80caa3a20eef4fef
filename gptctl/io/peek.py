"""Look at the first record of an input: which columns has it?"""

from __future__ import annotations

from gptctl.core.errors import DataError
from gptctl.io.inputs import Inputs, read_task
from gptctl.io.records import ReadOptions


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
