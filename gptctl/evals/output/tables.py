"""An evaluation report as small tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from gptctl.core.formatting import format_interval, format_number
from gptctl.core.summary import Table
from gptctl.evals.comparison.compare import metrics_in
from gptctl.evals.scoring.report import Report

MAX_FLIPPED = 10  # rows of each kind; --json has more
MAX_CLASSES = 30  # more would scroll the metrics off the screen; --json has all of them


def report_tables(report: Report) -> tuple[Table, ...]:
    """Return the metrics of each split, and classes, confusion matrix and comparisons of the last one."""
    splits = report.get("splits") or {report.get("split", "tasks"): report}
    found = [metrics_table(split, part) for split, part in splits.items()]
    if 0 < len(report.get("per_class") or {}) <= MAX_CLASSES:
        found.append(per_class_table(report))
    if "confusion" in report and len(report["confusion"]["labels"]) <= MAX_CLASSES:
        found.append(confusion_table(report))
    if report.get("baselines"):
        found.append(baselines_table(report["baselines"]))
    if report.get("compare"):
        found += [comparison_table(report["compare"]), *flipped_tables(report["compare"])]
    if report.get("leakage"):
        found.append(leakage_table(report))
    return tuple(found)


def metrics_table(split: str, report: Report) -> Table:
    """Return the numbers of one split with their intervals."""
    rows = []
    for name, value in report.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        bounds = (report.get("intervals") or {}).get(name)
        rows.append((name, format_number(value), format_interval(bounds)))
    about = report.get("average") or report.get("norm") or "all documents"
    return Table(f"{split} ({about})", ("metric", "value", "95 % interval"), tuple(rows))


def per_class_table(report: Report) -> Table:
    """Return precision, recall, F1 and support of each class."""
    names = ("precision", "recall", "f1", "support")
    rows = tuple(
        (label, *(format_number(values[name]) for name in names)) for label, values in report["per_class"].items()
    )
    return Table("per class", ("class", *names), rows)


def confusion_table(report: Report) -> Table:
    """Return the confusion matrix: a row per true class, a column per predicted class."""
    matrix = report["confusion"]
    columns = ("true \\ predicted", *matrix["labels"], "invalid")
    rows = tuple(
        (label, *(f"{count:,}" for count in row), f"{invalid:,}")
        for label, row, invalid in zip(matrix["labels"], matrix["matrix"], matrix["invalid"], strict=True)
    )
    return Table("confusion", columns, rows)


def baselines_table(baselines: Report) -> Table:
    """Return the metrics of each baseline, and by how much the model beats it."""
    metrics, rows = baseline_rows(baselines)
    return Table("baselines (and how much the model is better)", ("", *metrics, "McNemar p"), tuple(rows))


def baseline_rows(baselines: Report) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return the metrics of baselines by name, and a row of their values for each baseline."""
    metrics = list(next(iter(baselines.values()))["lift"])
    rows = [
        (
            name,
            *(f"{format_number(values[metric])} ({format_difference(values['lift'][metric])})" for metric in metrics),
            format_number(values["mcnemar"]["p"]),
        )
        for name, values in baselines.items()
    ]
    return metrics, rows


def comparison_table(comparison: Report) -> Table:
    """Return the metrics of both systems, and whether they differ."""
    rows = comparison_rows(comparison)
    if "mcnemar" in comparison:
        test = comparison["mcnemar"]
        right = (f"{test['b']:,} right alone", f"{test['c']:,} right alone")
        rows.append(("McNemar", *right, "", format_number(test["p"])))
    return Table("compared", ("metric", *system_names(comparison), "difference", "p"), tuple(rows))


def system_names(comparison: Report) -> tuple[str, str]:
    """Return the names of both systems, with their folders only where the last parts are the same."""
    this, other = comparison["systems"]
    short = tuple(path.rstrip("/").rsplit("/", 1)[-1] for path in (this, other))
    return (this, other) if short[0] == short[1] else (short[0], short[1])


def flipped_tables(comparison: Report) -> Iterator[Table]:
    """Yield the first rows that only one of the systems got right."""
    this, other = system_names(comparison)
    for kind, right in (("fixed", this), ("broken", other)):
        rows = [
            tuple(str(row[name]) for name in ("id", "label", "pred", "other"))
            for row in comparison.get("flipped", {}).get(kind, [])
        ]
        if rows:
            number = comparison["mcnemar"]["b" if kind == "fixed" else "c"]
            shown = rows[:MAX_FLIPPED]
            title = f"{kind}: {number:,} rows that only {right} has right"
            title += f", the first {len(shown)}" if number > len(shown) else ""
            yield Table(title, ("id", "label", this, other), tuple(shown))


def comparison_rows(comparison: Report) -> list[tuple[str, ...]]:
    """Return a row for each metric: its name, both values, their difference, and p."""
    return [
        (
            name,
            format_number(values["value"]),
            format_number(values["other"]),
            format_difference(values["difference"]),
            format_number(values["p"]),
        )
        for name, values in ((name, comparison[name]) for name in metrics_in(comparison))
    ]


def leakage_table(report: Report) -> Table:
    """Return how many rows were found in the training data, and the metrics without them."""
    leakage = report["leakage"]
    rows = [("rows found", f"{leakage['n']:,} of {report['n']:,}"), ("as a whole", f"{leakage['exact']:,}")]
    clean = {name: value for name, value in leakage["clean"].items() if name != "n"}
    rows += [(f"{name} without them", format_number(value)) for name, value in clean.items()]
    return Table(f"leakage ({leakage['documents']:,} training documents)", ("", "value"), tuple(rows))


def format_difference(value: float | None) -> str:
    """Return a difference with its sign."""
    return "-" if value is None else f"{value:+.4f}"
