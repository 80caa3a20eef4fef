"""Which document stays of each group of duplicates: the one of the lowest rank, the first in the input of equals."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gptctl.core.errors import DataError
from gptctl.core.plugins import did_you_mean

POLICIES = ("first", "longest", "highest:COLUMN", "priority:SOURCE,...")


def parse(policy: str) -> tuple[str, str]:
    """Split a policy into its name and its argument. Raises ValueError for an unknown one."""
    name, colon, argument = policy.partition(":")
    if (name in ("first", "longest") and not colon) or (name in ("highest", "priority") and argument):
        return name, argument
    near = did_you_mean(name, ["first", "longest", "highest", "priority"])
    raise ValueError(f"'{policy}' names no survivor{near}; known: {', '.join(POLICIES)}")


def ranks(policy: str, table: pa.Table) -> NDArray[np.float64]:
    """Give each document's rank; the lowest of a group stays. What has no value, or no listed source, ranks last.

    Raises DataError (3) where the table lacks the policy's column, or it holds no numbers.
    """
    name, argument = parse(policy)
    if name == "first":
        return np.zeros(len(table))
    if name == "longest":
        return -np.asarray(pc.binary_length(table["text"]).to_numpy(), np.float64)
    if name == "priority":
        order = pa.array([source.strip() for source in argument.split(",")])
        found = pc.index_in(table["source"].cast(pa.string()), value_set=order)
        return np.asarray(pc.fill_null(found.cast(pa.float64()), np.inf).to_numpy())
    if argument not in table.column_names:
        raise DataError(
            f"there is no column '{argument}' to choose survivors by; there are: {', '.join(table.column_names)}",
            "name one of them: --keep highest:COLUMN",
        )
    try:
        values = table[argument].cast(pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"column '{argument}' holds no numbers", "name another: --keep highest:COLUMN") from error
    return -np.asarray(pc.fill_null(values, -np.inf).to_numpy())
