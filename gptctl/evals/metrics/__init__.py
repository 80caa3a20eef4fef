"""One file per metric; its file name is the name given to `--metrics`, and a new file is all that a new metric needs.

Every file says for which rows it is (KINDS, names of files in gptctl/evals/kinds), and LOWER_IS_BETTER = True where
that is so.

A metric of labels (and of sets of labels) is computed from the sums of a confusion matrix, and has one of:
    fraction(sums) -> (numerator, denominator)  each int64 (..., k): a fraction per class, which is then averaged
    estimate(sums) -> float64 (...)             one number of all classes, NaN where it doesn't exist
and optionally
    interval(sums) -> (low, high)               a 95 % interval in closed form

Any other metric is computed from sums over the rows, and has
    statistics(data) -> float64 (N, S)          what each row adds; `data` is what the kind of rows gives
    estimate(totals) -> float64 (...)           from totals (..., S), NaN where it doesn't exist
    interval(totals) -> (low, high)             optional: a 95 % interval in closed form
"""
