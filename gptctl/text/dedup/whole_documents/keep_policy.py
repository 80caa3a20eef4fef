"""The policies of `--keep`: which document of a cluster survives.

A policy ranks documents. The one with the lowest rank survives; of equals, the first in the input.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gptctl.core.errors import DataError
from gptctl.core.plugins import did_you_mean

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
        return priorities(table["source"].cast(pa.string()), argument.split(","))
    if argument not in table.column_names:
        raise DataError(
            f"there is no column '{argument}' to choose survivors by; columns: {', '.join(table.column_names)}",
            "name one of these columns: --keep highest:COLUMN",
        )
    try:
        values = table[argument].cast(pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        message = f"column '{argument}' does not hold numbers"
        raise DataError(message, "name another column: --keep highest:COLUMN") from error
    return -np.asarray(pc.fill_null(values, -np.inf).to_numpy())


def priorities(sources: pa.ChunkedArray, order: list[str]) -> NDArray[np.float64]:
    """Return the place in `order` of each source: of its whole name, or of the folder that its name begins with."""
    ranks = np.full(len(sources), np.inf)
    for place, name in reversed(list(enumerate(map(str.strip, order)))):
        belongs = pc.or_(pc.equal(sources, name), pc.starts_with(sources, f"{name.rstrip('/')}/"))
        ranks[pc.fill_null(belongs, False).to_numpy()] = place
    return ranks
