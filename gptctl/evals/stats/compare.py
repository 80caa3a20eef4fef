"""Two systems on the same rows: is the difference more than chance?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from gptctl.core.errors import DataError
from gptctl.evals.prediction_types import labels
from gptctl.evals.scoring import scorer
from gptctl.evals.scoring.averages import Floats
from gptctl.evals.scoring.metric_results import Part, Rows, Values
from gptctl.evals.scoring.options import Options
from gptctl.evals.stats import intervals, resampling

SHOWN = 3  # ids named in an error message


def align(rows: Rows, others: Rows, name: str) -> Rows:
    """Return the other system's rows in our order. Rows are matched by id, and by split where both have one.

    Raises DataError (3) that names an id which only one of them has, or whose label differs.
    """
    by_split = all("split" in row for row in (*rows, *others))

    def key(row: Values) -> tuple[str, str]:
        return str(row["split"]) if by_split else "", str(row["id"])

    found = {key(row): row for row in others}
    own = {key(row) for row in rows}
    missing = [identity for identity in map(key, rows) if identity not in found]
    unknown = [identity for identity in found if identity not in own]
    for lacking, who in ((missing, name), (unknown, "this")):
        if lacking:
            more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
            ids = ", ".join(f"'{identity}'" for _, identity in lacking[:SHOWN])
            raise DataError(f"{who} has no row with id {ids}{more}", "both systems must have answered the same rows")
    aligned = [found[key(row)] for row in rows]
    for row, other in zip(rows, aligned, strict=True):
        if str(row.get("label")) != str(other.get("label")):
            raise DataError(
                f"id '{row['id']}' has the label '{row.get('label')}' here and '{other.get('label')}' in {name}",
                "both systems must be measured against the same labels",
            )
    return aligned


def compare(rows: Rows, others: Rows, kind: str, options: Options) -> Values:
    """Return the difference of every metric with its interval and p, and McNemar's test where rows are right or wrong.

    `others` are aligned. A positive difference means that the first system has the higher value. Both are measured
    over the labels that either has, and resampled together.
    """
    if kind == "labels" and options.label_set is None:
        options = replace(options, labels=labels.seen([*rows, *others]))
    first, second = scorer.measure(rows, kind, options), scorer.measure(others, kind, options)
    found: Values = {"n": first.n}
    if first.right is not None and second.right is not None:
        found["mcnemar"] = mcnemar_of(first.right, second.right)
    for one in first.parts:
        # Probabilities give figures of their own, and only one of the systems may have some.
        for other in (part for part in second.parts if part.values.keys() & one.values.keys()):
            found |= differences(one, other, options)
    return found


def mcnemar_of(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> Values:
    """Count the rows that only one of two systems has right, and test whether chance would split them so."""
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    return {"b": b, "c": c, "p": mcnemar(b, c)}


def mcnemar(b: int, c: int) -> float:
    """Return the exact two-sided p that b and c (or more unequal numbers) come from fair throws of a coin.

    McNemar 1947; the exact binomial form. b + c = 0 gives 1: nothing tells the systems apart.
    """
    n, least = b + c, min(b, c)
    if n == 0:
        return 1.0
    # ln C(n, i) for i = 0..least, summed as logarithms: C(n, i) alone leaves the range of floats at n = 1,030
    steps = np.arange(1, least + 1, dtype=np.float64)
    logs = np.concatenate(([0.0], np.cumsum(np.log((n - steps + 1) / steps)))) - n * np.log(2.0)
    return float(min(1.0, 2 * np.exp(np.logaddexp.reduce(logs))))


def differences(first: Part, second: Part, options: Options) -> Values:
    """Return for each metric: difference, 95 % interval, and p that there is none, all from the same resamples."""
    units, ours, theirs = resampling.paired(first.units, second.units)
    payloads = first.payload.take(ours), second.payload.take(theirs)
    names = [name for name in first.values if name in second.values]
    drawn: dict[str, list[Floats]] = {name: [] for name in names}
    width = payloads[0].width + payloads[1].width
    for weights in units.draws(width, resampling.resamples_for(len(units.counts)), options.seed):
        one, other = (payload.totals(weights) for payload in payloads)
        for name in names:
            drawn[name].append(first.estimates[name](one) - second.estimates[name](other))
    return {name: difference(first.values[name], second.values[name], np.concatenate(drawn[name])) for name in names}


def difference(value: float | None, other: float | None, drawn: Floats) -> Values:
    """Describe one difference. p is twice the share of resamples beyond 0 (Efron and Tibshirani 1993)."""
    defined = drawn[~np.isnan(drawn)]
    bounds = intervals.percentiles(drawn)
    opposite = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    return {
        "value": value,
        "other": other,
        "difference": None if value is None or other is None else value - other,
        "interval": None if bounds is None else list(bounds),
        "p": min(1.0, 2 * (opposite + 1) / (len(defined) + 1)) if len(defined) else None,
    }
