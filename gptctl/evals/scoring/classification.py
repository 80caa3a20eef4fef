"""Metrics of a confusion matrix: averaged over classes, per class, and the matrix that they come from."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gptctl.core.errors import DataError, UsageError
from gptctl.evals import metrics as metric_plugins
from gptctl.evals.metrics import CountsMetric, FractionMetric, Metric, closed_form_interval
from gptctl.evals.scoring.averages import (
    Average,
    Averaging,
    ZeroDivision,
    average_classes,
    finite_or_none,
    values_by_class,
    zero_division_warnings,
)
from gptctl.evals.scoring.class_statistics import sample_of_matrix
from gptctl.evals.scoring.confusion import ClassCounts, ConfusionMatrix
from gptctl.evals.scoring.metric_results import MetricGroup, MetricResult
from gptctl.evals.scoring.options import ScoringOptions
from gptctl.evals.stats.resampling import Estimator, Sample

DEFAULT_METRICS = ("accuracy", "precision", "recall", "f1")
MAX_MATRIX = 1000  # labels of a matrix that is reported whole
MIN_ROWS_PER_LABEL = 4  # with fewer, a label is probably an id
PER_CLASS = ("precision", "recall", "f1")


def classification_metrics(
    confusion: ConfusionMatrix, metrics: Mapping[str, Metric], options: ScoringOptions, sample: Sample | None = None
) -> MetricResult:
    """Compute the metrics of a confusion matrix. A bootstrap resamples `sample`, or the cells of the matrix.

    Raises UsageError for a positive label outside the label set and for the average "samples"; DataError for 0 rows.
    """
    averaging = options.averaging
    if confusion.n == 0:
        raise DataError("0 rows to score", "check that the input holds predictions")
    if averaging.average == "samples":
        raise UsageError("average 'samples' is for rows with several labels", "use macro, micro or weighted")
    if averaging.positive is not None:
        averaging.positive_index(confusion.labels)
    counts = confusion.class_counts()
    estimators = {name: class_estimator(metric, averaging) for name, metric in metrics.items()}
    intervals = {name: closed_form_interval(metric, counts) for name, metric in metrics.items()}
    group = MetricGroup(
        sample or sample_of_matrix(confusion),
        {name: finite_or_none(estimator(counts)) for name, estimator in estimators.items()},
        estimators,
        {name: interval for name, interval in intervals.items() if interval is not None},
    )
    summary: dict[str, Any] = {"invalid": confusion.invalid, "average": averaging.average}
    summary |= {"positive": str(averaging.positive)} if averaging.positive is not None else {}
    warnings = (
        *many_labels_warnings(confusion),
        *undefined_warnings(counts, metrics, averaging),
        *look_alike_warnings(confusion.labels),
    )
    details = classification_details(confusion, metrics, options)
    return MetricResult(confusion.n, (group,), summary, details, None, warnings)


def classification_details(
    confusion: ConfusionMatrix, metrics: Mapping[str, Metric], options: ScoringOptions
) -> dict[str, Any]:
    """Return what the metrics come from: the other averages, the classes, the matrix."""
    counts, averaging = confusion.class_counts(), options.averaging
    details: dict[str, Any] = {"averages": all_averages(counts, metrics, averaging)}
    if options.per_class:
        details["per_class"] = per_class(counts, averaging.zero_division)
    if options.confusion:
        details["confusion"] = confusion_report(confusion)
    return details | {"absent": confusion.absent()}


def confusion_report(confusion: ConfusionMatrix) -> dict[str, Any]:
    """Return the matrix, or the cells that are not 0 where there are more than MAX_MATRIX labels.

    A cell is the place of the gold label, that of the predicted label, or the number of labels for any other, and the
    number of rows.
    """
    labels = list(confusion.labels)
    if len(labels) > MAX_MATRIX:
        cells = np.stack((confusion.gold, confusion.predicted, confusion.counts), axis=1)
        return {"labels": labels, "cells": cells.tolist()}
    matrix = confusion.matrix
    return {"labels": labels, "matrix": matrix[:, :-1].tolist(), "invalid": matrix[:, -1].tolist()}


def many_labels_warnings(confusion: ConfusionMatrix) -> list[str]:
    """Return a warning if there are so many labels that they may be ids."""
    labels = len(confusion.labels)
    if labels <= MAX_MATRIX:
        return []
    words = f"{labels:,} labels in {confusion.n:,} rows: the confusion matrix is stored as cells, without pictures"
    if confusion.n < labels * MIN_ROWS_PER_LABEL:
        words += "; if the labels are ids, name the right column with --label-column, or as label in the predictions"
    return [words]


def class_estimator(metric: Metric, averaging: Averaging) -> Estimator:
    """Return a metric as a function of ClassCounts."""
    if isinstance(metric, FractionMetric):
        return lambda counts: average_classes(metric.class_fraction(counts), counts, averaging)
    assert isinstance(metric, CountsMetric)
    return metric.compute


def fraction_metrics(metrics: Mapping[str, Metric]) -> dict[str, FractionMetric]:
    """Return the metrics that have a value per class."""
    return {name: metric for name, metric in metrics.items() if isinstance(metric, FractionMetric)}


def all_averages(
    counts: ClassCounts, metrics: Mapping[str, Metric], averaging: Averaging
) -> dict[str, dict[str, float | None]]:
    """Return the macro, micro and weighted average of the metrics that have a value per class."""
    averages: tuple[Average, ...] = ("macro", "micro", "weighted")
    averagings = {
        average: Averaging(average, zero_division=averaging.zero_division, macro_over=averaging.macro_over)
        for average in averages
    }
    return {
        name: {
            average: finite_or_none(average_classes(metric.class_fraction(counts), counts, averagings[average]))
            for average in averages
        }
        for name, metric in fraction_metrics(metrics).items()
    }


def per_class(counts: ClassCounts, zero_division: ZeroDivision) -> dict[str, dict[str, float | int | None]]:
    """Return precision, recall, F1 and the gold rows of each class."""
    loaded = fraction_metrics({name: metric_plugins.load(name) for name in PER_CLASS})
    columns = {
        name: values_by_class(metric.class_fraction(counts), counts.labels, zero_division)
        for name, metric in loaded.items()
    }
    return {
        label: {name: column[label] for name, column in columns.items()} | {"support": int(rows)}
        for label, rows in zip(counts.labels, counts.support, strict=True)
    }


def undefined_warnings(counts: ClassCounts, metrics: Mapping[str, Metric], averaging: Averaging) -> list[str]:
    """Return a warning for each metric that is 0/0 for some class."""
    return [
        warning
        for name, metric in fraction_metrics(metrics).items()
        for warning in zero_division_warnings(name, metric.class_fraction(counts)[1], counts, averaging)
    ]


def look_alike_warnings(labels: Sequence[str]) -> list[str]:
    """Return a warning for labels that look equal but differ, such as é as one character and as e with an accent."""
    seen: dict[str, str] = {}
    warnings = []
    for label in labels:
        composed = unicodedata.normalize("NFC", label)
        if composed in seen:
            warnings.append(f"two labels look the same, '{seen[composed]}': they differ in Unicode normalization")
        seen.setdefault(composed, label)
    return warnings
