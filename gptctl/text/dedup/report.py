"""Metrics of deduplication for the manifest, and tables of them for people."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from gptctl.core.summary import Counts, Table
from gptctl.text.dedup.whole_documents.clusters import Clusters

LARGEST = 5  # clusters, or repeated lines and passages, that are shown with a sample
SAMPLE_CHARACTERS = 60


def sample_text(text: str) -> str:
    """Return the beginning of a text on one line."""
    return " ".join(text[: 4 * SAMPLE_CHARACTERS].split())[:SAMPLE_CHARACTERS].rstrip()


def cluster_metrics(clusters: Clusters, input_start: int, task_figures: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the number of clusters of each size, samples of the largest ones, and what segmented words."""
    _, cluster_sizes = clusters.sizes(input_start)
    sizes, counts = np.unique(cluster_sizes, return_counts=True)
    samples = [sample for figures in task_figures for sample in figures["samples"]]
    segmenters = Counter[str]()
    for figures in task_figures:
        segmenters.update(figures["segmenters"])
    return {
        **({"segmenters": dict(sorted(segmenters.items()))} if segmenters else {}),
        "clusters": {str(size): int(count) for size, count in zip(sizes, counts, strict=True)},
        "largest": sorted(samples, key=lambda sample: (-sample[1], sample[0])),
    }


def repeat_metrics(task_figures: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the sums of what was removed from the documents of all tasks, and what was removed most often."""
    total = Counter[str]()
    often: dict[str, list[Any]] = {}
    for figures in task_figures:
        total.update({name: value for name, value in figures.items() if name != "often"})
        for key, times, text in figures["often"]:
            often.setdefault(key, [times, text])
    most_often = sorted(often.values(), key=lambda sample: -sample[0])[:LARGEST]
    return dict(sorted(total.items())) | {"often": most_often}


def tables(method: str, metrics: dict[str, Any]) -> Iterator[Table]:
    """Yield the tables of a run: about clusters, or about repeated text that was removed."""
    if "removed" in metrics:
        yield from repeat_tables(method, metrics)
    else:
        yield from cluster_tables(metrics)


def describe_missing(counts: Counts, metrics: dict[str, Any], has_against: bool) -> Iterator[str]:
    """Yield a sentence on what the user asked for and that was not found."""
    if "removed" in metrics:
        if not metrics["removed"]:
            yield "no text is repeated"
        return
    if not counts.dropped:
        yield "no document is a duplicate"
    if has_against and not counts.dropped["in_against"]:
        yield "no document is a duplicate of one of --against"


def cluster_tables(metrics: dict[str, Any]) -> Iterator[Table]:
    """Yield tables of the sizes of clusters, of the largest ones, and of the pairs that were compared."""
    sizes = Counter[str]()
    for size, count in metrics["clusters"].items():
        sizes[size_range(int(size))] += count
    if sizes:
        rows = tuple((size, f"{count:,}") for size, count in sizes.items())
        yield Table("clusters of duplicates", ("documents in a cluster", "clusters"), rows)
        largest = tuple((cluster, f"{count:,}", text) for cluster, count, text in metrics["largest"])
        yield Table("largest clusters", ("cluster", "documents", "first document begins"), largest)
    if candidates := metrics["candidates"]:
        pairs = [("candidates (share a key)", f"{candidates:,}", "")]
        if "false_positives" in metrics:
            false = metrics["false_positives"]
            pairs.append(("- below the threshold", f"{false:,}", f"{false / candidates:.1%}"))
        yield Table("pairs of documents", ("", "pairs", "share"), tuple(pairs))


def repeat_tables(method: str, metrics: dict[str, Any]) -> Iterator[Table]:
    """Yield tables of how much repeated text was removed, and of what was removed most often."""
    unit = {"lines": "lines", "paragraphs": "paragraphs", "substring": "passages"}[method]
    rows = ((f"{unit} removed", f"{metrics['removed']:,}"), ("bytes removed", f"{metrics['removed_bytes']:,}"),
            ("documents changed", f"{metrics['changed']:,}"))  # fmt: skip
    yield Table("repeated text", ("", "count"), rows)
    if metrics["often"]:
        often = tuple((text, f"{times:,}") for times, text in metrics["often"])
        yield Table("removed most often", ("begins", "times"), often)


def size_range(size: int) -> str:
    """Return the range of cluster sizes that are shown in one row: "2", "3", "4 to 7", "8 to 15" and so on."""
    low = 2 ** int(math.log2(size))
    return str(size) if low < 4 else f"{low} to {2 * low - 1}"
