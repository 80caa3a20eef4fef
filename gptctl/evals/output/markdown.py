"""A result as Markdown, for the summary of a CI job or a comment on a change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gptctl.core.formatting import format_interval, format_number
from gptctl.evals.output.tables import MOST_CLASSES, signed
from gptctl.evals.scoring.metric_results import Values
from gptctl.evals.stats.gates import Check


def render(result: Values, checks: Sequence[Check]) -> str:
    """Write tables of gates, metrics, other systems, classes and the confusion matrix."""
    parts = ["# Evaluation"]
    if checks:
        passed = sum(item.passed for item in checks)
        rows = [(item.name, "passed" if item.passed else "**missed**", item.message) for item in checks]
        parts.append(f"{passed} of {len(checks)} gates passed.\n\n" + table(("gate", "", "value"), rows))
    for split, part in (result.get("splits") or {result.get("split", "all"): result}).items():
        parts.append(f"## {escape(str(split))}: {part['n']:,} rows\n\n{metrics_table(part)}")
        parts += others(part)
    if 0 < len(result.get("per_class") or {}) <= MOST_CLASSES:
        rows = [(label, *map(format_number, values.values())) for label, values in result["per_class"].items()]
        parts.append("## Per class\n\n" + table(("class", "precision", "recall", "f1", "rows"), rows))
    matrix = result.get("confusion") or {"labels": ()}
    if 0 < len(matrix["labels"]) <= MOST_CLASSES:
        parts.append("## Confusion\n\nRows are true classes, columns predicted ones.\n\n" + confusion(matrix))
    if result.get("warnings"):
        parts.append("## Warnings\n\n" + "\n".join(f"- {escape(line)}" for line in result["warnings"]))
    return "\n\n".join(parts) + "\n"


def metrics_table(part: Values) -> str:
    """Show the numbers of one split, with intervals."""
    rows = []
    for name, value in part.items():
        if type(value) in (int, float) and name != "n":
            bounds = (part.get("intervals") or {}).get(name)
            rows.append((name, format_number(value), format_interval(bounds)))
    return table(("metric", "value", "95 % interval"), rows)


def others(part: Values) -> list[str]:
    """Show baselines, the system that was compared with, and leakage."""
    found = []
    if baselines := part.get("baselines"):
        metrics = list(next(iter(baselines.values()))["lift"])
        rows = [
            (
                name,
                *(f"{format_number(one[m])} ({signed(one['lift'][m])})" for m in metrics),
                format_number(one["mcnemar"]["p"]),
            )
            for name, one in baselines.items()
        ]
        found.append("Baselines, and how much the model is better:\n\n" + table(("", *metrics, "McNemar p"), rows))
    if compared := part.get("compare"):
        rows = [
            (
                name,
                format_number(one["value"]),
                format_number(one["other"]),
                signed(one["difference"]),
                format_number(one["p"]),
            )
            for name, one in compared.items()
            if isinstance(one, dict) and "difference" in one
        ]
        found.append("Compared on the same rows:\n\n" + table(("metric", "this", "other", "difference", "p"), rows))
    if leaked := part.get("leakage"):
        found.append(f"{leaked['n']:,} of {part['n']:,} rows were found in {leaked['documents']:,} training documents.")
    return found


def confusion(matrix: Values) -> str:
    """Show the counts."""
    rows = [
        (label, *map(str, counts), str(invalid))
        for label, counts, invalid in zip(matrix["labels"], matrix["matrix"], matrix["invalid"], strict=True)
    ]
    return table(("", *matrix["labels"], "invalid"), rows)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table, its first column to the left, the others to the right."""
    lines = [columns, [":--", *["--:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(escape(text) for text in line)} |" for line in lines)


def escape(text: str) -> str:
    """Keep labels from breaking tables or becoming HTML."""
    flat = " ".join(text.split())
    return flat.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "\\`")
