"""Rows of multiple choice: `choices`, the model's `loglik` of each, `label` (the right one), perhaps `tokens` of each.

The choice with the highest log-likelihood is taken, divided by
    raw     1
    chars   the characters of the choice, without the delimiter before it
    bytes   its UTF-8 bytes
    tokens  its tokens (the mean log-likelihood of a token)
All are given; the setting `norm` says which is called accuracy. Of equal ones the first is taken, and such rows are
counted: a model that finds all choices equally likely would else look like one that knows where the answer stands.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gptctl.core.errors import UsageError
from gptctl.evals.scoring import classification, confusion, metric_results
from gptctl.evals.scoring.averages import Floats
from gptctl.evals.scoring.confusion import Integers
from gptctl.evals.scoring.metric_results import Measured, Part, Rows, Values
from gptctl.evals.scoring.options import NORMS, Norm, Options

DEFAULTS = ("accuracy",)
ROUNDING = 1e-9  # log-likelihoods nearer than this share of their size are equal


def matches(row: Values) -> bool:
    """Return whether a row has choices and their log-likelihoods."""
    return "choices" in row and "loglik" in row


def problem(row: Values) -> str | None:
    """Say what is wrong with a row, or None."""
    choices, loglik, tokens = row.get("choices"), row.get("loglik"), row.get("tokens")
    if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(item, str) for item in choices):
        return "has no list of two or more choices"
    if "" in choices:
        return f"has an empty choice, number {choices.index('')}: it has no log-likelihood"
    if not isinstance(loglik, list) or len(loglik) != len(choices):
        return f"has no list of {len(choices)} log-likelihoods"
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in loglik):
        return "has a log-likelihood that is not a finite number"
    if tokens is not None and (len(tokens) != len(choices) or not all(count and count > 0 for count in tokens)):
        return "has a choice without tokens"
    if gold_of(row) is None:
        return f"has the label {row.get('label')!r}, which is none of its choices or their numbers from 0"
    return None


def gold_of(row: Values) -> int | None:
    """Return the number of the right choice; `label` is that number, or the choice itself. None if it is neither."""
    label: Any = row.get("label")
    if isinstance(label, str) and label in row["choices"]:
        return int(row["choices"].index(label))
    text = str(label)
    return int(text) if text.isdecimal() and int(text) < len(row["choices"]) else None


def measure(rows: Rows, options: Options) -> Measured:
    """Decide each row by each normalization. Raises UsageError where tokens are asked for and not there."""
    modules = metric_results.chosen(options, "choices", DEFAULTS)
    ways = [way for way in NORMS if way != "tokens" or all(row.get("tokens") is not None for row in rows)]
    if options.norm not in ways:
        raise UsageError("norm 'tokens' needs the tokens of each choice", "give each row a list of tokens")
    gold = np.array([gold_of(row) for row in rows], np.int64)
    groups = metric_results.groups_of(rows)
    decided = {way: decide(rows, way) for way in ways}
    parts: list[Part] = []
    for name, way in {"accuracy": options.norm, **{f"accuracy_{way}": way for way in ways}}.items():
        parts.append(part_of(name, gold, decided[way][0], modules["accuracy"], options, groups))
    tail: Values = {
        "norm": options.norm,
        "ties": {way: int(ties.sum()) for way, (_, ties) in decided.items()},
        "chance": float(np.mean([1 / len(row["choices"]) for row in rows])),
    }
    tied = tail["ties"][options.norm]
    warnings = (f"{tied} of {len(rows)} rows have several likeliest choices: the first counts",) if tied else ()
    return Measured(len(rows), tuple(parts), {}, tail, gold == decided[options.norm][0], warnings)


def decide(rows: Rows, way: Norm) -> tuple[Integers, Integers]:
    """Return the number of the chosen one in each row (N,), and whether there were others as likely (N,)."""
    picks, ties = [], []
    for row in rows:
        scores = np.asarray(row["loglik"], np.float64) / lengths(row, way)
        best = scores.max()
        near = np.flatnonzero(scores >= best - ROUNDING * abs(best))
        picks.append(int(near[0]))
        ties.append(len(near) > 1)
    return np.array(picks, np.int64), np.array(ties, np.int64)


def lengths(row: Values, way: Norm) -> Floats:
    """Return what each choice's log-likelihood is divided by."""
    choices = row["choices"]
    if way == "chars":
        return np.array([len(choice) for choice in choices], np.float64)
    if way == "bytes":
        return np.array([len(choice.encode()) for choice in choices], np.float64)
    return np.array(row["tokens"] if way == "tokens" else [1.0] * len(choices), np.float64)


def part_of(
    name: str, gold: Integers, picked: Integers, module: Any, options: Options, groups: list[Any] | None
) -> Part:
    """Measure accuracy as that of any classification; the classes are the numbers of the choices."""
    matrix = confusion.count(gold.tolist(), picked.tolist(), list(range(int(max(gold.max(), picked.max())) + 1)))
    drawn = classification.drawn(matrix, gold, picked, groups)
    found = classification.measure(matrix, {"accuracy": module}, options, drawn).parts[0]
    values, estimates, closed = found.values, found.estimates, found.closed
    return Part(
        found.units,
        found.payload,
        {name: values["accuracy"]},
        {name: estimates["accuracy"]},
        {name: closed["accuracy"]},
    )
