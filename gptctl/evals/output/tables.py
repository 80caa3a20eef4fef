"""A result as small tables for people."""

from __future__ import annotations

from gptctl.core.formatting import format_interval, format_number
from gptctl.core.summary import Table
from gptctl.evals.scoring.metric_results import Values

MOST_CLASSES = 30  # more would scroll the metrics off the screen; all of them are in --json


def tables(result: Values) -> tuple[Table, ...]:
    """Show the metrics of each split, and classes, confusion, baselines and comparison of the last."""
    splits = result.get("splits") or {result.get("split", "tasks"): result}
    found = [metrics_table(split, part) for split, part in splits.items()]
    if 0 < len(result.get("per_class") or {}) <= MOST_CLASSES:
        found.append(per_class_table(result))
    if "confusion" in result and len(result["confusion"]["labels"]) <= MOST_CLASSES:
        found.append(confusion_table(result))
    if result.get("baselines"):
        found.append(baselines_table(result["baselines"]))
    if result.get("compare"):
        found.append(compare_table(result["compare"]))
    if result.get("leakage"):
        found.append(leakage_table(result))
    return tuple(found)


def metrics_table(split: str, part: Values) -> Table:
    """Show the numbers of one split, with their intervals."""
    rows = []
    for name, value in part.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        bounds = (part.get("intervals") or {}).get(name)
        rows.append((name, format_number(value), format_interval(bounds)))
    about = part.get("average") or part.get("norm") or "all documents"
    return Table(f"{split} ({about})", ("metric", "value", "95 % interval"), tuple(rows))


def per_class_table(result: Values) -> Table:
    """Show precision, recall, F1 and support of each class."""
    names = ("precision", "recall", "f1", "support")
    rows = tuple(
        (label, *(format_number(values[name]) for name in names)) for label, values in result["per_class"].items()
    )
    return Table("per class", ("class", *names), rows)


def confusion_table(result: Values) -> Table:
    """Show the confusion matrix: a row per true class, a column per predicted one."""
    matrix = result["confusion"]
    columns = ("true \\ predicted", *matrix["labels"], "invalid")
    rows = tuple(
        (label, *(f"{count:,}" for count in row), f"{invalid:,}")
        for label, row, invalid in zip(matrix["labels"], matrix["matrix"], matrix["invalid"], strict=True)
    )
    return Table("confusion", columns, rows)


def baselines_table(baselines: Values) -> Table:
    """Show each baseline's metrics, and by how much the model beats it."""
    metrics = list(next(iter(baselines.values()))["lift"])
    rows = tuple(
        (name, *(f"{format_number(found[metric])} ({signed(found['lift'][metric])})" for metric in metrics),
         format_number(found['mcnemar']['p']))
        for name, found in baselines.items()
    )  # fmt: skip
    return Table("baselines (and how much the model is better)", ("", *metrics, "McNemar p"), rows)


def compare_table(found: Values) -> Table:
    """Show both systems' metrics and whether they differ."""
    rows = [
        (
            name,
            format_number(one["value"]),
            format_number(one["other"]),
            signed(one["difference"]),
            format_number(one["p"]),
        )
        for name, one in found.items()
        if isinstance(one, dict) and "difference" in one
    ]
    if "mcnemar" in found:
        test = found["mcnemar"]
        rows.append(("McNemar", f"{test['b']:,} only here", f"{test['c']:,} only there", "", format_number(test["p"])))
    return Table("compared", ("metric", "this", "other", "difference", "p"), tuple(rows))


def leakage_table(result: Values) -> Table:
    """Show what of the evaluation data stood in the training data, and the metrics without it."""
    found = result["leakage"]
    rows = [("rows found", f"{found['n']:,} of {result['n']:,}"), ("as a whole", f"{found['exact']:,}")]
    rows += [(f"{name} without them", format_number(value)) for name, value in found["clean"].items() if name != "n"]
    return Table(f"leakage ({found['documents']:,} training documents)", ("", "value"), tuple(rows))


def signed(value: float | None) -> str:
    """Write a difference."""
    return "-" if value is None else f"{value:+.4f}"
