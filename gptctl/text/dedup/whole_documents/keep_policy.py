"""The policies of `--keep`: which document of a cluster survives.

A policy ranks documents. The one with the lowest rank survives; of equals, the first in the input.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gptctl.core.errors import DataError
from gptctl.core.plugins import did_you_mean

MAX_SHOWN = 12  # sources that an error lists
POLICIES = ("first", "longest", "highest:COLUMN", "priority:SOURCE,...")


def parse(policy: str) -> tuple[str, str]:
    """Split a policy into its name and its argument. Raises ValueError for an unknown policy."""
    name, colon, argument = policy.partition(":")
    if (name in ("first", "longest") and not colon) or (name in ("highest", "priority") and argument):
        return name, argument
    suggestion = did_you_mean(name, ["first", "longest", "highest", "priority"])
    raise ValueError(f"'{policy}' is no policy for survivors{suggestion}; known: {', '.join(POLICIES)}")


def ranks(policy: str, table: pa.Table) -> NDArray[np.float64]:
    """Return the rank of each document. A document without a value, or of an unlisted source, ranks last.

    Raises DataError (3) if the table lacks the policy's column, or the column does not hold numbers.
    """
    name, argument = parse(policy)
    if name == "first":
        return np.zeros(len(table))
    if name == "longest":
        return -np.asarray(pc.binary_length(table["text"]).to_numpy(), np.float64)
    if name == "priority":
        return priorities(table["source"].cast(pa.string()), source_names(policy))
    if argument not in table.column_names:
        raise DataError(
            f"there is no column '{argument}' to choose survivors by; columns: {', '.join(table.column_names)}",
            "name one of these columns: --keep highest:COLUMN",
        )
    try:
        values = without_blanks(table[argument]).cast(pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        message = f"column '{argument}' does not hold numbers"
        raise DataError(message, "name another column: --keep highest:COLUMN") from error
    return -np.asarray(pc.fill_null(values, -np.inf).to_numpy())


def without_blanks(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column with null for blank texts, as the empty cells of a CSV file are."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return column
    is_blank = pc.equal(pc.binary_length(pc.utf8_trim_whitespace(column)), 0)
    return pc.if_else(is_blank, pa.scalar(None, column.type), column)


def priorities(sources: pa.ChunkedArray, order: Sequence[str]) -> NDArray[np.float64]:
    """Return the place in `order` of each source: of its whole name, or of the folder that its name begins with."""
    ranks = np.full(len(sources), np.inf)
    for place, name in reversed(list(enumerate(order))):
        ranks[belonging(sources, name)] = place
    return ranks


def belonging(sources: pa.ChunkedArray, name: str) -> NDArray[np.bool_]:
    """Return which sources have a name or lie in the folder of this name."""
    belongs = pc.or_(pc.equal(sources, name), pc.starts_with(sources, f"{name.rstrip('/')}/"))
    return np.asarray(pc.fill_null(belongs, False).to_numpy(zero_copy_only=False))


def source_names(policy: str) -> tuple[str, ...]:
    """Return the sources that a policy names, in order; none unless it is a priority."""
    name, argument = parse(policy)
    return tuple(map(str.strip, argument.split(","))) if name == "priority" else ()


def without_files(policy: str, files: Sequence[str]) -> list[str]:
    """Return the sources of a policy that no file is named after, nor a folder of it. Rows may name other sources."""
    names = pa.chunked_array([pa.array(files, pa.string())])
    return [one for one in source_names(policy) if not belonging(names, one).any()]


def known_names(policy: str, table: pa.Table) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return which sources or column of a policy some documents have, and a few names of the sources there are."""
    name, argument = parse(policy)
    if name == "highest":
        return ((argument,) if ranks(policy, table).min(initial=np.inf) < np.inf else ()), ()
    if name != "priority":
        return (), ()
    sources = pc.unique(table["source"].cast(pa.string()).combine_chunks()).drop_null()
    known = tuple(one for one in source_names(policy) if belonging(sources, one).any())
    folders = dict.fromkeys(source.split("/")[0] for source in sources.to_pylist())
    return known, tuple(folders)[:MAX_SHOWN]


def check_known(policy: str, known: Collection[str], others: Collection[str]) -> None:
    """Raise DataError (3) if no document of INPUT has a source that the policy names, or a number in its column."""
    name, argument = parse(policy)
    if name == "highest" and argument not in known:
        raise DataError(
            f"no document has a number in column '{argument}'", "name another column: --keep highest:COLUMN"
        )
    missing = [one for one in source_names(policy) if one not in known]
    if missing:
        shown = list(others)
        more = ", ..." if len(shown) > MAX_SHOWN else ""
        raise DataError(
            f"no document is from {' or '.join(missing)}; sources: {', '.join(shown[:MAX_SHOWN])}{more}",
            "name sources of the input: --keep priority:SOURCE,...",
        )
