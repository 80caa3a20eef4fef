"""Rows with one label each: `label`, `pred`, and where there are any, `probs` of all labels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gptctl.core.errors import DataError
from gptctl.evals.scoring import calibration, classification, confusion, metric_results
from gptctl.evals.scoring.confusion import Confusion, Integers
from gptctl.evals.scoring.metric_results import Measured, Rows, Values
from gptctl.evals.scoring.options import Options

DEFAULTS = classification.DEFAULTS
CALIBRATION = ("ece", "brier", "nll")


def matches(row: Values) -> bool:
    """Return whether a row has a label and something that was predicted."""
    return "label" in row and ("pred" in row or "probs" in row) and not isinstance(row["label"], list)


def problem(row: Values) -> str | None:
    """Say what is wrong with a row, or None."""
    if row.get("label") is None:
        return "has no label"
    if isinstance(row["label"], dict | list) or isinstance(row.get("pred"), dict | list):
        return "has a list where one label is expected"
    probs = row.get("probs")
    if probs is None:
        return None if "pred" in row else "has neither pred nor probs"
    if not isinstance(probs, list) or not all(isinstance(p, int | float) and math.isfinite(p) for p in probs):
        return "has a probability that is not a number"
    if any(p < 0 for p in probs) or abs(sum(probs) - 1) > calibration.TOLERANCE:
        return f"has probabilities that are no distribution (their sum is {sum(probs):.4g})"
    return None


def measure(rows: Rows, options: Options) -> Measured:
    """Count, and measure the probabilities too where all rows have them.

    Raises DataError for a label outside the label set, and for probabilities that do not fit the label set.
    """
    with_probs = all(row.get("probs") is not None for row in rows)
    modules = metric_results.chosen(options, "labels", DEFAULTS + (CALIBRATION if with_probs else ()))
    counted = {name: module for name, module in modules.items() if not hasattr(module, "statistics")}
    groups = metric_results.groups_of(rows)
    labels = options.label_set
    pred = predictions(rows, options, labels)
    gold = [row["label"] for row in rows]
    matrix = confusion.count(gold, pred, labels)
    places = places_of(gold, matrix), places_of(pred, matrix)
    drawn = classification.drawn(matrix, *places, groups)
    found = classification.measure(matrix, counted, options, drawn)
    parts, tail = found.parts, found.tail
    if probable := {name: module for name, module in modules.items() if hasattr(module, "statistics")}:
        if not with_probs:
            raise DataError(
                f"{next(iter(probable))} needs probabilities, and not every row has probs", "leave that metric out"
            )
        data = calibration.collect(rows, options, matrix.labels)
        parts = (*parts, metric_results.additive(probable, data, groups))
        tail = tail | {"calibration": calibration.bins_of(data)}
    return Measured(found.n, parts, found.head | cut_texts(rows), tail, places[0] == places[1], found.warnings)


def predictions(rows: Rows, options: Options, labels: tuple[str, ...] | None) -> list[Any]:
    """Return what was predicted: `pred`, else the likeliest label."""
    if all("pred" in row for row in rows):
        return [row["pred"] for row in rows]
    order = calibration.order_of(rows, options, labels or seen(rows))
    return [row["pred"] if "pred" in row else order[int(np.argmax(row["probs"]))] for row in rows]


def seen(rows: Rows) -> tuple[str, ...]:
    """List the labels that occur, sorted."""
    values = [row["label"] for row in rows] + [row["pred"] for row in rows if "pred" in row]
    return tuple(sorted({text for text in confusion.as_texts(values) if text is not None}))


def places_of(values: list[Any], matrix: Confusion) -> Integers:
    """Give each value's column in the matrix (N,)."""
    place = {label: index for index, label in enumerate(matrix.labels)}
    return np.array([place.get(str(text), len(place)) for text in confusion.as_texts(values)], np.int64)


def cut_texts(rows: Rows) -> Values:
    """Count the texts that were longer than the model's context, where the rows tell."""
    told = [row["truncated"] for row in rows if row.get("truncated") is not None]
    return {"truncated": sum(map(int, told))} if told else {}
