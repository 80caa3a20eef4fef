"""What a search for duplicates found, in figures for the manifest and in tables for people."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from gptctl.core.summary import Table
from gptctl.text.dedup.clusters import Clusters

LARGEST = 5  # clusters, or repeated lines and passages, that are shown with a sample
SAMPLE_CHARACTERS = 60


def excerpt(text: str) -> str:
    """Return the beginning of a text on one line."""
    return " ".join(text[: 4 * SAMPLE_CHARACTERS].split())[:SAMPLE_CHARACTERS].rstrip()


def of_clusters(found: Clusters, first_new: int, parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Count clusters by size, and show the largest. `parts`: the tasks' figures."""
    _, members = found.sizes(first_new)
    sizes, counts = np.unique(members, return_counts=True)
    samples = [sample for part in parts for sample in part["samples"]]
    return {
        "clusters": {str(size): int(count) for size, count in zip(sizes, counts, strict=True)},
        "largest": sorted(samples, key=lambda sample: (-sample[1], sample[0])),
    }


def of_repeats(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Add up what the tasks removed, and show what was removed most often."""
    total = Counter[str]()
    often: dict[str, list[Any]] = {}
    for part in parts:
        total.update({name: value for name, value in part.items() if name != "often"})
        for key, times, text in part["often"]:
            often.setdefault(key, [times, text])
    most = sorted(often.values(), key=lambda shown: -shown[0])[:LARGEST]
    return dict(sorted(total.items())) | {"often": most}


def tables(method: str, metrics: dict[str, Any]) -> Iterator[Table]:
    """Show the clusters by size and samples of the largest, or what was removed, and what of it most often."""
    if "removed" in metrics:
        yield from of_removed(method, metrics)
        return
    sizes = Counter[str]()
    for size, count in metrics["clusters"].items():
        sizes[span(int(size))] += count
    if sizes:
        rows = tuple((size, f"{count:,}") for size, count in sizes.items())
        yield Table("clusters of duplicates", ("documents in a cluster", "clusters"), rows)
        largest = tuple((cluster, f"{count:,}", text) for cluster, count, text in metrics["largest"])
        yield Table("largest clusters", ("cluster", "documents", "the first begins"), largest)
    if candidates := metrics["candidates"]:
        pairs = [("that share a key", f"{candidates:,}", "")]
        if "false_positives" in metrics:
            false = metrics["false_positives"]
            pairs.append(("- not near enough", f"{false:,}", f"{false / candidates:.1%}"))
        yield Table("pairs of documents", ("", "pairs", "share"), tuple(pairs))


def of_removed(method: str, metrics: dict[str, Any]) -> Iterator[Table]:
    """Show how much was removed within documents, and what most often."""
    unit = {"lines": "lines", "paragraphs": "paragraphs", "substring": "passages"}[method]
    rows = ((f"{unit} removed", f"{metrics['removed']:,}"), ("bytes removed", f"{metrics['removed_bytes']:,}"),
            ("documents changed", f"{metrics['changed']:,}"))  # fmt: skip
    yield Table("within documents", ("", "count"), rows)
    if metrics["often"]:
        often = tuple((text, f"{times:,}") for times, text in metrics["often"])
        yield Table("removed most often", ("begins", "times"), often)


def span(size: int) -> str:
    """Name the sizes of clusters that are shown as one."""
    low = 2 ** int(math.log2(size))
    return str(size) if low < 4 else f"{low} to {2 * low - 1}"
