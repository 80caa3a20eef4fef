"""The sections of the stages that make data: clean, dedup, tokenize and generate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from gptctl.core.config import Values
from gptctl.core.formatting import format_bytes
from gptctl.core.summary import Counts, Table, quarantine_name
from gptctl.io.input.find import find_files
from gptctl.io.object_storage.address import is_uri, join
from gptctl.reporting import svg_charts
from gptctl.reporting.sections.section import (
    SAMPLES,
    Sample,
    Section,
    counts_of,
    metrics_of,
    show_figures,
    show_rows,
)
from gptctl.text.splitting import report as split_report


def show_clean(section: Section) -> None:
    """Show how many documents were dropped for each reason, with examples."""
    counts = counts_of(section.output)
    show_counts(section, counts)
    folder = section.output.folder
    for row in quarantined(folder):
        section.samples.append(
            Sample(f"{quarantine_name(row.get('reason', ''))} ({row.get('file', '')})", str(row.get("excerpt", "")))
        )
    seen: dict[str, int] = {}
    for row in rows_below(join(folder, "rejects")):
        reason = str(row.get("reason", ""))
        seen[reason] = seen.get(reason, 0) + 1
        if seen[reason] <= SAMPLES:
            section.samples.append(Sample(f"dropped: {reason}", str(row.get("text", ""))))
        if counts.dropped and all(seen.get(name, 0) >= min(n, SAMPLES) for name, n in counts.dropped.items()):
            break  # there may be millions of other rows, and none of them would be shown
    if counts.dropped and not seen:
        section.remarks.append(("note", "clean --keep-rejects keeps examples of what is dropped"))
    show_rows(section, "kept", "text")


def show_dedup(section: Section) -> None:
    """Show the sizes of the clusters of duplicates, and the texts of the largest."""
    show_counts(section, counts_of(section.output))
    metrics = metrics_of(section.output)
    sizes = sorted(((int(size), n) for size, n in (metrics.get("clusters") or {}).items()))
    if sizes:
        rows = [(f"clusters of {size:,}", float(n), f"{n:,}", 2) for size, n in sizes[:12]]
        if sizes[12:]:
            rows.append(("larger ones", float(sum(n for _, n in sizes[12:])), f"{sum(n for _, n in sizes[12:]):,}", 2))
        section.charts.append(svg_charts.bars("Clusters of duplicates by size", rows))
    for name in ("candidates", "false_positives"):
        if name in metrics:
            section.figures.append((name.replace("_", " "), f"{metrics[name]:,}"))
    for _, size, text in metrics.get("largest") or []:
        section.samples.append(Sample(f"cluster of {size:,} documents", f"{text}…"))
    show_rows(section, "kept", "text")


def show_split(section: Section) -> None:
    """Show the size of each split, the labels in each, and what stays together."""
    show_counts(section, counts_of(section.output))
    section.tables.extend(split_report.tables(metrics_of(section.output)))
    show_rows(section, "kept", "text")


def show_tokenize(section: Section) -> None:
    """Show the figures of the tokenizer and the size of each split."""
    metrics = metrics_of(section.output)
    show_figures(section, metrics, ("vocab_size", "bytes_per_token", "tokens_per_word", "vocabulary_used", "tokenizer"))
    rows = [
        (split, f"{part['documents']:,}", f"{part['tokens']:,}", format_bytes(part["bytes"]))
        for split in ("train", "val", "test")
        if (part := metrics.get(split))
    ]
    if rows:
        section.tables.append(Table("Splits", ("split", "documents", "tokens", "text"), tuple(rows)))
    show_rows(section, "tokens, decoded", "tokens")


def show_generate(section: Section) -> None:
    """Show the figures and the first generated texts."""
    metrics = metrics_of(section.output)
    show_figures(section, metrics, tuple(metrics))
    show_rows(section, "written", "text")


def show_counts(section: Section, counts: Counts) -> None:
    """Draw how many documents were read, dropped and quarantined by reason, and kept."""
    if not counts.documents_in:
        return
    share = f"{counts.kept / counts.documents_in:.1%}"
    rows = [
        ("documents in", float(counts.documents_in), f"{counts.documents_in:,}, {format_bytes(counts.bytes_in)}", 4)
    ]
    for reason, n in counts.dropped.most_common():
        rows.append((f"dropped: {reason}", float(n), f"{n:,}, {format_bytes(counts.dropped_bytes[reason])}", 2))
    rows += [(quarantine_name(reason), float(n), f"{n:,}", 2) for reason, n in counts.quarantined.most_common()]
    rows.append(("kept", float(counts.kept), f"{counts.kept:,} ({share}), {format_bytes(counts.bytes_kept)}", 1))
    section.charts.append(svg_charts.bars("Documents", rows))


def rows_below(folder: str) -> Iterator[Values]:
    """Yield the text and reason of each row of the shard files in a folder, or nothing if there is no such folder."""
    from gptctl.io.dataset.shard_format import read_groups
    from gptctl.io.files import open_seekable

    if is_uri(folder) or not Path(folder).is_dir():
        return
    for file in find_files(folder):
        with open_seekable(file.path) as source:
            for table in read_groups(source, file.path, ["text", "reason"]):
                yield from table.to_pylist()


def quarantined(folder: str) -> list[Values]:
    """Return the first records of quarantine.jsonl."""
    path = Path(folder) / "quarantine.jsonl"
    if is_uri(folder) or not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line, _ in zip(file, range(SAMPLES), strict=False)]
