"""Read the first record of an input to find out what columns its records have."""

from __future__ import annotations

from dataclasses import replace

from gptctl.core.errors import DataError
from gptctl.io.input.blocks import ReadOptions
from gptctl.io.input.inputs import Inputs
from gptctl.io.input.read_task import read_task


def columns(path: str, options: ReadOptions) -> list[str]:
    """Return the columns of the first document, or none if no record has a text in the text column.

    The text is listed as "text". Raises UsageError (2) if the path does not exist.
    """
    try:
        for task in Inputs((path,), options).tasks(limit=1):
            table = read_task(task, options).documents
            if len(table):
                return [str(name) for name in table.column_names]
    except DataError:
        return []
    return []


def choices_beside(path: str, options: ReadOptions) -> str | None:
    """Return the column of contexts if the first record is a multiple-choice question, else None.

    It is "context" unless the user names another column. A stream is not read, since it can be read only once.
    """
    for name in ("context", "text") if options.text_column == "text" else (options.text_column,):
        if path != "-" and "choices" in columns(path, replace(options, text_column=name)):
            return name
    return None
