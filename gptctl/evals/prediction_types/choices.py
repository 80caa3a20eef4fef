"""Rows of multiple choice: `choices`, the model's `loglik` of each, `label`, and optionally `tokens` of each.

`label` is the correct choice, or its number from 0. The choice with the highest log-likelihood is the prediction, after
dividing by

    raw     1
    chars   the characters of the choice, without the delimiter before it
    bytes   its UTF-8 bytes
    tokens  its tokens (the mean log-likelihood of a token)

The report contains all four; the option `norm` selects the one that is called accuracy. Of equal choices the first is
the prediction. Such rows are counted as ties, because a model that finds all choices equally likely would otherwise
look like one that knows the position of the correct choice.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gptctl.core.errors import UsageError
from gptctl.evals import metrics as metric_plugins
from gptctl.evals.array_types import BoolArray, FloatArray, IntArray
from gptctl.evals.metrics import Metric
from gptctl.evals.prediction_types import group_ids
from gptctl.evals.scoring.class_statistics import sample_of_classes
from gptctl.evals.scoring.classification import classification_metrics
from gptctl.evals.scoring.confusion import confusion_matrix
from gptctl.evals.scoring.metric_results import MetricGroup, MetricResult
from gptctl.evals.scoring.options import NORMS, Norm, ScoringOptions
from gptctl.io.input.predictions import Rows

DEFAULT_METRICS = ("accuracy",)
TIE_TOLERANCE = 1e-9  # log-likelihoods that differ by less than this share of their size are equal


def matches(row: dict[str, Any]) -> bool:
    """Return whether a row has choices and their log-likelihoods."""
    return "choices" in row and "loglik" in row


def row_error(row: dict[str, Any]) -> str | None:
    """Return what is wrong with a row, or None."""
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
    if gold_choice(row) is None:
        return f"has the label {row.get('label')!r}, which is neither one of its choices nor the number of one from 0"
    return None


def gold_choice(row: dict[str, Any]) -> int | None:
    """Return the number of the correct choice: `label` is that number or the choice itself. None if it is neither."""
    label: Any = row.get("label")
    if isinstance(label, str) and label in row["choices"]:
        return int(row["choices"].index(label))
    text = str(label)
    return int(text) if text.isdecimal() and int(text) < len(row["choices"]) else None


def compute_metrics(rows: Rows, options: ScoringOptions) -> MetricResult:
    """Compute the accuracy of each normalization. Raises UsageError if `norm` is tokens and rows have none."""
    metrics = metric_plugins.select(options.metrics or DEFAULT_METRICS, "choices")
    norms = [norm for norm in NORMS if norm != "tokens" or all(row.get("tokens") is not None for row in rows)]
    if options.norm not in norms:
        raise UsageError("norm 'tokens' needs the tokens of each choice", "add a list of tokens to each row")
    gold = np.array([gold_choice(row) for row in rows], np.int64)
    predictions = {norm: predicted_choices(rows, norm) for norm in norms}
    groups = tuple(
        choice_metrics({name: metric}, gold, predictions[norm][0], options, group_ids(rows))
        for metric_name, metric in metrics.items()
        for name, norm in {metric_name: options.norm, **{f"{metric_name}_{norm}": norm for norm in norms}}.items()
    )
    ties = {norm: int(tied.sum()) for norm, (_, tied) in predictions.items()}
    details = {
        "norm": options.norm,
        "ties": ties,
        "chance": float(np.mean([1 / len(row["choices"]) for row in rows])),
    }
    warnings = []
    if tied := ties[options.norm]:
        warnings.append(f"{tied} of {len(rows)} rows have several likeliest choices: the first counts")
    return MetricResult(len(rows), groups, {}, details, gold == predictions[options.norm][0], tuple(warnings))


def predicted_choices(rows: Rows, norm: Norm) -> tuple[IntArray, BoolArray]:
    """Return the number of the predicted choice in each row (N,), and whether other choices are equally likely (N,)."""
    predicted, tied = [], []
    for row in rows:
        scores = np.asarray(row["loglik"], np.float64) / divisors(row, norm)
        best = scores.max()
        equal = np.flatnonzero(scores >= best - TIE_TOLERANCE * abs(best))
        predicted.append(int(equal[0]))
        tied.append(len(equal) > 1)
    return np.array(predicted, np.int64), np.array(tied, np.bool_)


def divisors(row: dict[str, Any], norm: Norm) -> FloatArray:
    """Return what the log-likelihood of each choice is divided by."""
    choices = row["choices"]
    if norm == "chars":
        return np.array([len(choice) for choice in choices], np.float64)
    if norm == "bytes":
        return np.array([len(choice.encode()) for choice in choices], np.float64)
    return np.array(row["tokens"] if norm == "tokens" else [1.0] * len(choices), np.float64)


def choice_metrics(
    metrics: dict[str, Metric], gold: IntArray, predicted: IntArray, options: ScoringOptions, groups: list[Any] | None
) -> MetricGroup:
    """Compute metrics as for any classification, with the numbers of the choices as classes."""
    confusion = confusion_matrix(
        gold.tolist(), predicted.tolist(), list(range(int(max(gold.max(), predicted.max())) + 1))
    )
    sample = sample_of_classes(confusion.labels, gold, predicted, groups)
    return classification_metrics(confusion, metrics, options, sample).groups[0]
