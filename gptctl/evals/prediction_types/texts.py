"""Rows of generated text: `pred`, and `label`, a reference text or a list of equally good ones."""

from __future__ import annotations

from gptctl.evals.metrics import exact_match
from gptctl.evals.scoring import metric_results
from gptctl.evals.scoring.metric_results import Measured, Rows, Values
from gptctl.evals.scoring.options import Options

DEFAULTS = ("exact_match", "token_f1")


def matches(row: Values) -> bool:
    """Tell nothing: labels are texts too. Rows are taken for texts where a metric of texts is asked for."""
    return False


def problem(row: Values) -> str | None:
    """Say what is wrong with a row, or None."""
    label = row.get("label")
    if not label and label != "":
        return "has no reference text in label"
    if not all(isinstance(item, str) for item in (label if isinstance(label, list) else [label])):
        return "has a label that is neither a text nor a list of texts"
    if not isinstance(row.get("pred", ""), str | None):
        return "has a pred that is no text"
    return None


def measure(rows: Rows, options: Options) -> Measured:
    """Compare each text with its references; a null text is an empty one."""
    modules = metric_results.chosen(options, "texts", DEFAULTS)
    pairs = [(row["pred"] or "", references(row)) for row in rows]
    right = exact_match.statistics(pairs)[:, 0] > 0
    return Measured(len(rows), (metric_results.additive(modules, pairs, metric_results.groups_of(rows)),), right=right)


def references(row: Values) -> list[str]:
    """Return the reference texts of a row."""
    return row["label"] if isinstance(row["label"], list) else [row["label"]]
