"""One file per metric; its file name is the name given to `--metrics`.

A metric file has four functions:
    estimate(sums, averaging) -> float64 (...)           the value of each matrix in `sums`, NaN where it doesn't exist
    value(confusion, average, positive, zero_division, over) -> float | None
    per_class(confusion, zero_division) -> {label: float | None}
    warnings(confusion, averaging) -> list of sentences  what the reader of the value must know
and, where a closed form is better than the bootstrap,
    interval(confusion) -> (low, high)                   a 95 % confidence interval
"""
