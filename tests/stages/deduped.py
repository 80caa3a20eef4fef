"""What the tests of dedup share: real text with copies, the stage in this process, and what it wrote."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from gptctl.core.context import Context
from gptctl.core.summary import Summary
from gptctl.io.dataset import manifest
from gptctl.io.dataset.stream import StreamWriter
from gptctl.stages.dedup import Dedup, plan, run
from gptctl.text.dedup.shingles import Shingling
from tests.conftest import tree_bytes
from tests.text.dedup import plain

Row = dict[str, Any]
THRESHOLD = 0.8
PIECE_WORDS = 120


def reference() -> list[str]:
    """Pieces of the language reference that comes with Python."""
    from pydoc_data.topics import topics

    words = " ".join(topics[name] for name in sorted(topics)).split()
    return [" ".join(words[first : first + PIECE_WORDS]) for first in range(0, len(words) - PIECE_WORDS, PIECE_WORDS)]


def corpus() -> list[Row]:
    """The reference with copies: exact, in capitals, with some words changed, copies of copies; and short texts."""
    rng = random.Random(5)
    rows: list[Row] = []
    for number, text in enumerate(reference()):
        family = [text]
        for _ in range(rng.choice((0, 0, 1, 2, 4))):
            words = rng.choice(family).split()
            for change in range(rng.choice((0, 1, 2, 3, 4, 5, 6))):
                words[rng.randrange(len(words))] = f"new{number}{change}"
            family.append(" ".join(words).upper() if rng.random() < 0.2 else " ".join(words))
        rows += [{"text": one} for one in family]
    rows += [{"text": text} for text in ("See also.", "See also!", "See also.", "", "", "See", "See also.")]
    rng.shuffle(rows)
    for number, row in enumerate(rows):
        row |= {
            "id": f"d{number}",
            "source": rng.choice(("web", "books", "forum")),
            "score": rng.choice((None, 1, 2, 3)),
        }
    return rows


def dedup(*inputs: Path, out: Path, context: Context | None = None, **settings: Any) -> Summary:
    """Run the stage in this process."""
    return run(Dedup(inputs=tuple(map(str, inputs)), out=str(out), **{"executor": "serial"} | settings), context)


def plan_of(*inputs: Path, **settings: Any) -> Row:
    found = plan(Dedup(inputs=tuple(map(str, inputs)), out="out", **settings), Context()).plan
    assert found is not None
    return found


def kept(out: Path) -> list[Row]:
    """Read the documents that stayed, in order."""
    shards = [out / shard.path for shard in manifest.read(out).shards]
    return [row for path in shards for row in pa.ipc.open_file(path).read_all().to_pylist()]


def cluster_table(out: Path) -> dict[str, Row]:
    """Read the table of clusters, by id."""
    parts = [pa.ipc.open_file(path).read_all() for path in sorted((out / "clusters").glob("*.arrow"))]
    return {row["id"]: row for part in parts for row in part.to_pylist()}


def same_documents(one: Path, other: Path) -> bool:
    """Whether two outputs have the same shards and tables, whatever their settings."""
    return tree_bytes(one, "shards", "clusters") == tree_bytes(other, "shards", "clusters")


def check_survivors(out: Path, texts: dict[str, str]) -> None:
    """Each document that went is as near as it says to one that stays, and near enough."""
    stayed = {row["id"]: row["cluster_id"] for row in kept(out)}
    for name, row in cluster_table(out).items():
        if row["verdict"] == "survivor":
            assert (row["survivor"], row["similarity"], stayed[name]) == (name, 1.0, row["cluster_id"])
            continue
        assert name not in stayed and stayed[row["survivor"]] == row["cluster_id"]
        same = texts[name] == texts[row["survivor"]]
        assert (row["verdict"] == "exact_duplicate") == same
        share = 1.0 if same else plain.jaccard(texts[name], texts[row["survivor"]], Shingling())
        assert row["similarity"] == pytest.approx(share) and share >= THRESHOLD


def stream_of(*parts: list[Row]) -> bytes:
    """A pipe's bytes: documents in shards."""
    sink = io.BytesIO()
    writer = StreamWriter(sink)
    for number, rows in enumerate(parts):
        table = pa.Table.from_pylist(rows)
        writer.write(number, table.set_column(0, "text", table["text"].cast(pa.large_string())))
    writer.close()
    return sink.getvalue()
