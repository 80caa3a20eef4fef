"""What rows can be: one file per kind. A kind says how its rows are told, checked and measured.

DEFAULTS                          metrics that are computed where none are named
matches(row) -> bool              whether a row is of this kind, by its columns
problem(row) -> str | None        what is wrong with a row, in words that follow "row 3"
measure(rows, options) -> Measured
"""
