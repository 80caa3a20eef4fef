"""Rows with one label each: `label`, `pred`, and optionally `probs`, the probabilities of all labels."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from gptctl.core.errors import DataError
from gptctl.evals import metrics as metric_plugins
from gptctl.evals.array_types import IntArray
from gptctl.evals.metrics import AdditiveMetric
from gptctl.evals.prediction_types import group_ids
from gptctl.evals.scoring import calibration, classification
from gptctl.evals.scoring.additive import additive_metrics
from gptctl.evals.scoring.class_statistics import sample_of_classes
from gptctl.evals.scoring.confusion import confusion_matrix, label_texts
from gptctl.evals.scoring.metric_results import MetricResult
from gptctl.evals.scoring.options import ScoringOptions
from gptctl.io.input.predictions import Rows
from gptctl.io.labels import as_label

DEFAULT_METRICS = classification.DEFAULT_METRICS
CALIBRATION_METRICS = ("ece", "brier", "nll")


def matches(row: dict[str, Any]) -> bool:
    """Return whether a row has one label and a prediction."""
    return "label" in row and ("pred" in row or "probs" in row) and not isinstance(row["label"], list)


def row_error(row: dict[str, Any]) -> str | None:
    """Return what is wrong with a row, or None."""
    if as_label(row.get("label")) is None:
        return "has no label"
    if isinstance(row["label"], dict | list) or isinstance(row.get("pred"), dict | list):
        return "has a list where one label is expected"
    probs = row.get("probs")
    if probs is None:
        return None if "pred" in row else "has neither pred nor probs"
    if not isinstance(probs, list) or not all(isinstance(p, int | float) and math.isfinite(p) for p in probs):
        return "has a probability that is not a number"
    if any(p < 0 for p in probs) or abs(sum(probs) - 1) > calibration.SUM_TOLERANCE:
        return f"has probabilities that are negative or do not sum to 1 (their sum is {sum(probs):.4g})"
    return None


def compute_metrics(rows: Rows, options: ScoringOptions) -> MetricResult:
    """Compute metrics of the confusion matrix, and of the probabilities if every row has them.

    Raises DataError for a label outside the label set, and for probabilities that do not fit the label set.
    """
    with_probs = all(row.get("probs") is not None for row in rows)
    defaults = DEFAULT_METRICS + (CALIBRATION_METRICS if with_probs else ())
    metrics = metric_plugins.select(options.metrics or defaults, "labels")
    of_probs = {name: metric for name, metric in metrics.items() if isinstance(metric, AdditiveMetric)}
    of_classes = {name: metric for name, metric in metrics.items() if name not in of_probs}
    groups = group_ids(rows)
    predicted = predicted_labels(rows, options)
    gold = [row["label"] for row in rows]
    confusion = confusion_matrix(gold, predicted, options.label_set)
    gold_indices, predicted_indices = (label_indices(values, confusion.labels) for values in (gold, predicted))
    sample = sample_of_classes(confusion.labels, gold_indices, predicted_indices, groups)
    result = classification.classification_metrics(confusion, of_classes, options, sample)
    result = replace(result, summary=result.summary | truncated_rows(rows), correct=gold_indices == predicted_indices)
    if not of_probs:
        return result
    if not with_probs:
        raise DataError(
            f"{next(iter(of_probs))} needs probabilities, but some rows have no probs", "leave that metric out"
        )
    data = calibration.collect_probabilities(rows, options, confusion.labels)
    return replace(
        result,
        groups=(*result.groups, additive_metrics(of_probs, data, groups)),
        details=result.details | {"calibration": calibration.reliability_bins(data)},
    )


def predicted_labels(rows: Rows, options: ScoringOptions) -> list[Any]:
    """Return the predictions: `pred`, else the most probable label."""
    if all("pred" in row for row in rows):
        return [row["pred"] for row in rows]
    order = calibration.probability_labels(rows, options, options.label_set or seen_labels(rows))
    return [row["pred"] if "pred" in row else order[int(np.argmax(row["probs"]))] for row in rows]


def seen_labels(rows: Rows) -> tuple[str, ...]:
    """Return the labels that occur in the rows, sorted."""
    values = [row["label"] for row in rows] + [row["pred"] for row in rows if "pred" in row]
    return tuple(sorted({text for text in label_texts(values) if text is not None}))


def label_indices(values: list[Any], labels: tuple[str, ...]) -> IntArray:
    """Return each value's index among the labels (N,); the number of labels for any other value."""
    index_of = {label: index for index, label in enumerate(labels)}
    return np.array([index_of.get(str(text), len(index_of)) for text in label_texts(values)], np.int64)


def truncated_rows(rows: Rows) -> dict[str, int]:
    """Count the texts that were longer than the model's context, if the rows say so."""
    truncated = [row["truncated"] for row in rows if row.get("truncated") is not None]
    return {"truncated": sum(map(int, truncated))} if truncated else {}
