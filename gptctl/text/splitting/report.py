"""Metrics of a division for the manifest, tables of them for people, and warnings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from gptctl.core.formatting import format_bytes
from gptctl.core.summary import Table
from gptctl.text.tokenization.splits import NAMES

MAX_LABELS = 30  # rows of the table; the manifest and --json have all of them
MAX_NAMED = 5  # labels in a warning


def combine(task_stats: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the documents, bytes and share of each split, the documents of each label in each, and what segmented."""
    splits: dict[str, dict[str, Any]] = {name: {"documents": 0, "bytes": 0} for name in NAMES}
    labels: dict[str, dict[str, int]] = {}
    segmenters = Counter[str]()
    for stats in task_stats:
        for name in NAMES:
            for key in ("documents", "bytes"):
                splits[name][key] += stats[key].get(name, 0)
        segmenters.update(stats["segmenters"])
        for label, counts in stats["labels"].items():
            row = labels.setdefault(label, dict.fromkeys(NAMES, 0))
            for name, count in counts.items():
                row[name] += count
    total = sum(split["documents"] for split in splits.values())
    for split in splits.values():
        split["share"] = round(split["documents"] / total, 6) if total else 0.0
    found = {"segmenters": dict(sorted(segmenters.items())), "labels": dict(sorted(labels.items()))}
    return {"splits": splits} | {name: value for name, value in found.items() if value}


def tables(metrics: dict[str, Any]) -> Iterator[Table]:
    """Yield a table of the splits, one of the labels if there are any, and one of what stays together."""
    rows = tuple(
        (name, f"{split['documents']:,}", f"{split['share']:.1%}", format_bytes(split["bytes"]))
        for name, split in metrics["splits"].items()
    )
    yield Table("splits", ("", "documents", "share", "text"), rows)
    if labels := metrics.get("labels"):
        yield label_table(labels)
    yield Table("stay together", ("", "count"), tuple(together(metrics)))


def label_table(labels: dict[str, dict[str, int]]) -> Table:
    """Return a table of the most frequent labels, with the share of each that is in each split."""
    frequent = sorted(labels.items(), key=lambda item: (-sum(item[1].values()), item[0]))
    rows = [
        (label, *(f"{row[name]:,} ({row[name] / sum(row.values()):.1%})" for name in NAMES))
        for label, row in frequent[:MAX_LABELS]
    ]
    if len(frequent) > MAX_LABELS:
        rows.append((f"{len(frequent) - MAX_LABELS:,} more labels", *[""] * len(NAMES)))
    return Table("labels", ("label", *NAMES), tuple(rows))


def together(metrics: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the figures about documents that stay together."""
    duplicates, units = metrics["duplicates"], metrics["units"]
    yield "clusters of duplicates", f"{duplicates['clusters']:,}"
    yield "documents in them", f"{duplicates['documents']:,}"
    if units != duplicates:
        yield "groups of two or more documents", f"{units['clusters']:,}"
        yield "documents in them", f"{units['documents']:,}"
    yield "most documents that stay together", f"{units['largest']:,}"
    if late := metrics.get("late_copies"):
        yield "later copies beside an earlier one", f"{late:,}"
    if metrics["conflicts"]["clusters"]:
        yield "clusters with different labels", f"{metrics['conflicts']['clusters']:,}"


def warnings(metrics: dict[str, Any], shares: dict[str, float]) -> Iterator[str]:
    """Yield a line for each split that is empty and was asked for, and about labels that a split lacks."""
    for name, share in shares.items():
        if share and not metrics["splits"][name]["documents"]:
            yield f"the {name} split is empty: too few documents for --{name} {share}, or clusters that are too large"
        elif share and (lacking := [label for label, row in metrics.get("labels", {}).items() if not row[name]]):
            more = f" and {len(lacking) - MAX_NAMED} more" if len(lacking) > MAX_NAMED else ""
            yield f"the {name} split has no document of these labels: {', '.join(lacking[:MAX_NAMED])}{more}"
