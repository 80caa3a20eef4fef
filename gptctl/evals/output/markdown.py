"""An evaluation report as Markdown, for the summary of a CI job or a comment on a pull request."""

from __future__ import annotations

from collections.abc import Sequence

from gptctl.core.formatting import format_interval, format_number
from gptctl.core.markdown import escape, raw_table, table
from gptctl.evals.comparison.gates import GateResult
from gptctl.evals.output.tables import MAX_CLASSES, baseline_rows, comparison_rows, flipped_tables, system_names
from gptctl.evals.scoring.report import Report


def render(report: Report, gates: Sequence[GateResult]) -> str:
    """Return tables of gates, metrics, comparisons, classes and the confusion matrix."""
    parts = ["# Evaluation"]
    if gates:
        passed = sum(gate.passed for gate in gates)
        rows = [(escape(gate.name), "passed" if gate.passed else "**missed**", escape(gate.message)) for gate in gates]
        parts.append(f"{passed} of {len(gates)} gates passed.\n\n" + raw_table(("gate", "", "value"), rows))
    for split, part in (report.get("splits") or {report.get("split", "all"): report}).items():
        parts.append(f"## {escape(str(split))}: {part['n']:,} rows\n\n{metrics_table(part)}")
        parts += comparisons(part)
    if 0 < len(report.get("per_class") or {}) <= MAX_CLASSES:
        rows = [(label, *map(format_number, values.values())) for label, values in report["per_class"].items()]
        parts.append("## Per class\n\n" + table(("class", "precision", "recall", "f1", "rows"), rows))
    matrix = report.get("confusion") or {"labels": ()}
    if 0 < len(matrix["labels"]) <= MAX_CLASSES:
        parts.append("## Confusion\n\nRows are true classes, columns predicted ones.\n\n" + confusion_table(matrix))
    if report.get("warnings"):
        parts.append("## Warnings\n\n" + "\n".join(f"- {escape(line)}" for line in report["warnings"]))
    return "\n\n".join(parts) + "\n"


def metrics_table(report: Report) -> str:
    """Return the numbers of one split with their intervals."""
    rows = []
    for name, value in report.items():
        if type(value) in (int, float) and name != "n":
            bounds = (report.get("intervals") or {}).get(name)
            rows.append((name, format_number(value), format_interval(bounds)))
    return table(("metric", "value", "95 % interval"), rows)


def comparisons(report: Report) -> list[str]:
    """Return the baselines, the comparison with another system, and the leakage of one split."""
    found = []
    if baselines := report.get("baselines"):
        metrics, rows = baseline_rows(baselines)
        found.append("Baselines, and how much the model is better:\n\n" + table(("", *metrics, "McNemar p"), rows))
    if comparison := report.get("compare"):
        columns = ("metric", *system_names(comparison), "difference", "p")
        found.append("Compared on the same rows:\n\n" + table(columns, comparison_rows(comparison)))
        found += [f"{escape(one.title)}:\n\n" + table(one.columns, one.rows) for one in flipped_tables(comparison)]
    if leakage := report.get("leakage"):
        found.append(
            f"{leakage['n']:,} of {report['n']:,} rows were found in {leakage['documents']:,} training documents."
        )
    return found


def confusion_table(matrix: Report) -> str:
    """Return the counts of a confusion matrix."""
    rows = [
        (label, *map(str, counts), str(invalid))
        for label, counts, invalid in zip(matrix["labels"], matrix["matrix"], matrix["invalid"], strict=True)
    ]
    return table(("", *matrix["labels"], "invalid"), rows)
