"""The predictions for one split of the data, and what is known about all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from gptctl.evals.scoring import scorer
from gptctl.evals.scoring.classification import DEFAULT_METRICS
from gptctl.evals.scoring.options import ScoringOptions
from gptctl.evals.scoring.report import Report
from gptctl.io.input.blocks import ReadOptions
from gptctl.io.input.predictions import ANY_TABLE, Predictions, Rows, read_predictions

UNNAMED_SPLIT = "predictions"  # the split of rows that name none


class TrainingTexts(NamedTuple):
    """The texts of a training split and their labels."""

    texts: Sequence[str]
    labels: Sequence[str]


@dataclass(frozen=True)
class PredictionMetadata:
    """What a file of predictions records about a split.

    report_settings: what a reader of the scores must know, such as the stride. labels: the label of each entry of
    `probs`, in order.
    """

    prediction_type: str = ""
    report_settings: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        values = {"rows": self.prediction_type, "report": dict(self.report_settings), "labels": list(self.labels)}
        return {name: value for name, value in values.items() if value}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PredictionMetadata:
        """Read the metadata; what is not recorded is empty."""
        return cls(values.get("rows", ""), values.get("report", {}), tuple(values.get("labels", ())))


@dataclass(frozen=True)
class SplitPredictions:
    """Rows of one prediction type and one split.

    `texts` are the texts that the model read, and `train` is the training split for baselines; either may be unknown.
    """

    split: str
    prediction_type: str
    rows: Rows
    metadata: PredictionMetadata = field(default_factory=PredictionMetadata)
    texts: tuple[str, ...] | None = None
    train: TrainingTexts | None = None

    def options(self, options: ScoringOptions) -> ScoringOptions:
        """Adapt the options: the default metrics are those of the prediction type, the label set is the model's."""
        labels = self.metadata.labels or None
        metrics = () if set(options.metrics) == set(DEFAULT_METRICS) else options.metrics
        return replace(options, metrics=metrics, labels=options.labels or labels, probability_labels=labels)

    def score(self, options: ScoringOptions) -> Report:
        """Return the report on the rows, with what the scores depend on."""
        report = scorer.score(self.rows, self.prediction_type, self.options(options))
        return report | dict(self.metadata.report_settings)


def read_splits(path: str, metrics: Sequence[str], reading: ReadOptions = ANY_TABLE) -> list[SplitPredictions]:
    """Read and check predictions, split by split. Raises UsageError (2) or DataError (3)."""
    return group_by_split(read_predictions(path, reading), metrics, "standard input" if path == "-" else path)


def group_by_split(predictions: Predictions, metrics: Sequence[str], source: str) -> list[SplitPredictions]:
    """Check rows and group them by split, in the order of first appearance."""
    prediction_type = scorer.detect_type(predictions.rows, metrics, source)
    if predictions.facts.get("rows") == "texts" and set(metrics) == set(DEFAULT_METRICS):
        prediction_type = "texts"
    scorer.check_rows(predictions.rows, prediction_type, source)
    by_split: dict[str, Rows] = {}
    for row in predictions.rows:
        by_split.setdefault(str(row.get("split") or UNNAMED_SPLIT), []).append(row)
    recorded = predictions.facts.get("splits", {})
    return [
        SplitPredictions(
            split, prediction_type, rows, PredictionMetadata.from_json(recorded.get(split, {})), texts_in(rows)
        )
        for split, rows in by_split.items()
    ]


def texts_in(rows: Rows) -> tuple[str, ...] | None:
    """Return the texts in the column `text`, if every row has one."""
    texts = [row.get("text") for row in rows]
    return tuple(text for text in texts if isinstance(text, str)) if all(isinstance(t, str) for t in texts) else None
