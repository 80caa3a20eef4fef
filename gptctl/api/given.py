"""What callers of the Python functions give, as the configs and models take it: text, numbers, lists and tables."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from gptctl.core.errors import UsageError

# Packages whose arrays and numbers are lists and numbers of Python after tolist().
ARRAYS = ("numpy", "torch")
# Packages whose tables can be written to a file that the commands read, and how.
TABLES = {
    "pandas": "to_parquet('rows.parquet')",
    "polars": "write_parquet('rows.parquet')",
    "pyarrow": "pyarrow.parquet.write_table(table, 'rows.parquet')",
    "datasets": "to_parquet('rows.parquet')",
}


def as_given(name: str, value: Any) -> Any:
    """Return an argument's value as the config layers take it: paths as text, sequences as lists, tables as dicts.

    Raises UsageError (2) for values that no argument has, such as the tables of other packages.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        return checked_text(name, value)
    if isinstance(value, Mapping):
        return {checked_text(name, str(key)): as_given(f"{name}.{key}", item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        value = sorted(value, key=str)
    if isinstance(value, list | tuple | range | Iterator):
        return [as_given(name, item) for item in value]
    if package_of(value) in ARRAYS and hasattr(value, "tolist"):
        return as_given(name, value.tolist())
    raise wrong_type(name, value)


def checked_text(name: str, text: str) -> str:
    """Return a text as it is. Raises UsageError (2) for one that UTF-8 cannot hold."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise UsageError(f"{name} is not valid Unicode: {text!r}", "give it without halves of surrogate pairs")
    return text


def texts_of(name: str, value: Any) -> list[str]:
    """Return the texts of an argument that takes one text or several. Raises UsageError (2) for anything else."""
    if isinstance(value, os.PathLike):
        raise wrong_type(name, value)
    texts = as_given(name, [value] if isinstance(value, str) else value)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UsageError(f"{name} takes a text or a list of texts, not {kind(value, texts)}", "give text as str")
    return texts


def kind(value: Any, items: Any = None) -> str:
    """Name the type of a value, and of the first item of a list that is no text."""
    if isinstance(items, list) and items:
        wrong = next((item for item in items if not isinstance(item, str)), items[0])
        return f"a list with {kind(wrong)}"
    own, package = type(value).__qualname__, package_of(value)
    return own if package in ("builtins", "") else f"{package}.{own}"


def package_of(value: Any) -> str:
    """Return the name of the package that a value's type is from."""
    return str(type(value).__module__).split(".")[0]


def wrong_type(name: str, value: Any) -> UsageError:
    """Return the error for a value of a type that no argument takes, with what to give instead."""
    hint = "give text, a number, a list or a dictionary"
    if package_of(value) == "gptctl" and hasattr(value, "path"):
        hint = f"give its path: {value.path}"
    elif package_of(value) == "gptctl" and hasattr(value, "outputs"):
        hint = f"give its output: {', '.join(value.outputs)}"
    elif hasattr(value, "shape") or hasattr(value, "to_pylist") or package_of(value) == "datasets":
        is_column = type(value).__name__ in ("Series", "ChunkedArray")
        hint = f"write it to a file with {TABLES.get(package_of(value), 'its own method')}, and give the file's path"
        hint = "make it a list" if is_column else hint
    return UsageError(f"{name} cannot be a {kind(value)}", hint)
