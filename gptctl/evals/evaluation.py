"""Evaluate predictions: score each split, and compare it with baselines, another system and the training data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gptctl.core.context import Context
from gptctl.core.errors import DataError, UsageError
from gptctl.evals.comparison import baselines, regressions
from gptctl.evals.comparison.compare import align_rows, compare_rows
from gptctl.evals.comparison.gates import GateResult
from gptctl.evals.leakage import Leakage, LeakageSearch
from gptctl.evals.scoring import scorer
from gptctl.evals.scoring.options import ScoringOptions
from gptctl.evals.scoring.report import Report
from gptctl.evals.scoring.split_predictions import SplitPredictions
from gptctl.io.input.predictions import Rows


@dataclass(frozen=True)
class OtherSystem:
    """The predictions of another system, and the name by which errors call it."""

    name: str
    rows: Rows


@dataclass(frozen=True)
class Evaluation:
    """The report on all splits, and the predictions that it was computed from; those of lm-eval are not known."""

    report: Report
    splits: list[SplitPredictions]


@dataclass(frozen=True)
class Comparisons:
    """What predictions are compared with, and the name of what made them.

    `require_baselines`: it is an error if the baselines cannot be trained.
    """

    baselines: tuple[str, ...] = ()
    require_baselines: bool = False
    other: OtherSystem | None = None
    name: str = "this"
    leakage: LeakageSearch | None = None


def evaluate(
    splits: Sequence[SplitPredictions], options: ScoringOptions, comparisons: Comparisons, context: Context
) -> Evaluation:
    """Score each split and compare it. The report of the last split, test if there is one, is at the top."""
    splits = [with_baselines(split, comparisons) for split in splits]
    reports = {split.split: split.score(options) for split in splits}
    for split in splits:
        report = reports[split.split]
        predicted = baselines.predicted_in(split.rows) if split.prediction_type == "labels" else []
        if names := [name for name in predicted if name in comparisons.baselines]:
            baseline_options = replace(split.options(options), metrics=options.metrics)
            report["baselines"] = baselines.compare_with_baselines(split.rows, names, baseline_options)
        if comparisons.other is not None:
            found = compare_split(splits, split, comparisons.other, options)
            report["compare"] = {"systems": [comparisons.name, comparisons.other.name]} | found
        if comparisons.leakage is not None:
            report["leakage"] = leakage_report(split, find_leakage(split, comparisons.leakage, context), options)
        if absent := [label for label in report.get("absent", ()) if label in (options.labels or ())]:
            report["warnings"] = [
                *report.get("warnings", ()), f"no row has or predicts these labels of --labels: {', '.join(absent)}"
            ]  # fmt: skip
    last = list(reports)[-1]
    top = reports[last] | {"split": last} | ({"splits": reports} if len(reports) > 1 else {})
    return Evaluation(top, splits)


def with_baselines(split: SplitPredictions, comparisons: Comparisons) -> SplitPredictions:
    """Add the predictions of baselines to the rows, if they were named or can be trained.

    Raises DataError (3) if they were named and cannot be trained.
    """
    classified = split.prediction_type == "labels"
    predicted = baselines.predicted_in(split.rows) if classified else []
    missing = [name for name in comparisons.baselines if name not in predicted]
    if not missing or not (comparisons.require_baselines or split.train is not None):
        return split
    if not classified or split.texts is None or split.train is None:
        raise DataError(
            "baselines need texts with one label each, and a training split to learn from",
            "gptctl eval MODEL DATA, with a folder DATA that has train and test files",
        )
    return replace(split, rows=baselines.add_predictions(split.rows, split.texts, missing, split.train))


def compare_split(
    splits: Sequence[SplitPredictions], split: SplitPredictions, other: OtherSystem, options: ScoringOptions
) -> Report:
    """Compare one split with another system's rows, matched by id. Raises DataError (3) if they don't match."""
    other_rows = other.rows
    if all("split" in row for row in (*other.rows, *split.rows)):
        other_rows = [row for row in other.rows if str(row["split"]) == split.split]
    elif len(splits) > 1:
        ids = {str(row["id"]) for row in split.rows}
        other_rows = [row for row in other.rows if str(row["id"]) in ids]
    scorer.check_rows(other_rows, split.prediction_type, other.name)
    aligned = align_rows(split.rows, other_rows, other.name)
    return compare_rows(split.rows, aligned, split.prediction_type, split.options(options))


def find_leakage(split: SplitPredictions, search: LeakageSearch, context: Context) -> Leakage:
    """Search the training data for the texts of a split."""
    if split.texts is None:
        raise DataError("--leakage needs the texts, and the predictions have no column 'text'", "name MODEL and DATA")
    return search.find(split.texts, context)


def leakage_report(split: SplitPredictions, leakage: Leakage, options: ScoringOptions) -> Report:
    """Return which rows were found in the training data, and the metrics of the others."""
    clean = leakage.clean_rows(split.rows)
    metrics: Report = {"n": len(clean)}
    if clean:
        metrics |= scorer.compute_metrics(clean, split.prediction_type, split.options(options)).values
    return leakage.report(split.rows) | {"clean": metrics}


def check_regressions(
    evaluation: Evaluation, earlier: Report | Rows, alpha: float, options: ScoringOptions
) -> list[GateResult]:
    """Check that no metric is significantly worse than in an earlier report, or in earlier predictions."""
    report = evaluation.report
    if isinstance(earlier, dict):
        return regressions.check_reports(report, earlier, list(report["intervals"]), alpha)
    if not evaluation.splits:
        raise UsageError("--harness has no rows to compare with earlier predictions", "name an earlier result in JSON")
    last = evaluation.splits[-1]
    comparison = compare_split([last], last, OtherSystem("the earlier predictions", earlier), options)
    return regressions.check_rows(comparison, alpha)
