"""Which documents dedup drops, for which that stay."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest

from gptctl.core.context import Context
from gptctl.core.errors import DataError
from gptctl.stages import dedup as stage
from gptctl.text.dedup.shingles import Shingling
from tests.conftest import Ran, read_jsonl, write_jsonl
from tests.stages.deduped import (
    THRESHOLD,
    Row,
    check_survivors,
    cluster_table,
    dedup,
    kept,
    reference,
)
from tests.text.dedup import plain


def test_each_dropped_document_is_near_its_survivor(unique: tuple[Path, Ran], texts: dict[str, str]) -> None:
    out, done = unique
    check_survivors(out, texts)
    counts, table = done.json["counts"], cluster_table(out)
    verdicts = Counter(row["verdict"] for row in table.values())
    assert counts["in"] == len(texts) == counts["kept"] + verdicts["exact_duplicate"] + verdicts["near_duplicate"]
    assert counts["dropped"] == {name: verdicts[name] for name in ("exact_duplicate", "near_duplicate")}
    assert min(counts["dropped"].values()) > 50
    schema = pa.ipc.open_file(out / "clusters/part-00000.arrow").schema
    assert {field.name: str(field.type) for field in schema} == {
        "id": "string", "cluster_id": "string", "survivor": "string", "similarity": "double", "verdict": "string",
    }  # fmt: skip
    short = [row["text"] for row in kept(out) if len(row["text"]) < 10]
    assert sorted(short) == ["", "See", "See also!", "See also."]  # too short for a shingle: only exact copies go


def test_near_duplicates_are_found_as_often_as_the_curve_says(unique: tuple[Path, Ran], texts: dict[str, str]) -> None:
    """Of all pairs that are near enough, those in one cluster: 9 bands of 13 rows find 0.4 of them at 0.8, all at 0.95."""
    from gptctl.text.dedup import minhash

    table = cluster_table(unique[0])
    words = {name: re.findall(r"[^\W_]+", text.lower()) for name, text in texts.items()}
    sets = {name: set(zip(*(found[place:] for place in range(5)), strict=False)) for name, found in words.items()}
    owners: dict[tuple[str, ...], list[str]] = {}
    for name, found in sets.items():
        for shingle in found:
            owners.setdefault(shingle, []).append(name)
    pairs = {(a, b) for names in owners.values() if len(names) < 9 for a in names for b in names if a < b}
    banding = minhash.optimal_banding(THRESHOLD, 128)
    chance, together = [], []
    for a, b in sorted(pairs):
        share = len(sets[a] & sets[b]) / len(sets[a] | sets[b])
        if share >= THRESHOLD:
            chance.append(float(minhash.candidate_probability(share, banding)))
            together.append(a in table and b in table and table[a]["cluster_id"] == table[b]["cluster_id"])
    assert len(chance) > 300
    # Chains hold together more than the pairs found one by one.
    assert sum(together) > sum(chance) - 3 * sum(c * (1 - c) for c in chance) ** 0.5


def test_a_long_chain_leaves_every_other(tmp_path: Path) -> None:
    """Of documents each of which is near to the next only, no two that are near each other stay."""
    words = [word for word in " ".join(reference()).split() if word.isalpha()]
    rows = [{"id": f"d{n}", "text": " ".join(words[9 * n : 9 * n + 150])} for n in range(100)]
    write_jsonl(tmp_path / "chain.jsonl", rows)
    shares = [plain.jaccard(rows[0]["text"], rows[n]["text"], Shingling()) for n in (1, 2)]
    assert shares[0] > THRESHOLD > shares[1]
    for keep in ("first", "longest"):
        found = dedup(tmp_path / "chain.jsonl", out=tmp_path / keep, num_perm=256, bands=64, keep=keep)
        assert found.metrics["clusters"] == {"100": 1}
        check_survivors(tmp_path / keep, {row["id"]: row["text"] for row in rows})
        numbers = [int(row["id"][1:]) for row in kept(tmp_path / keep)]
        assert all(after - before > 1 for before, after in pairwise(numbers)), numbers
        assert 33 <= len(numbers) <= 50


def test_without_verification_more_goes(unique: tuple[Path, Ran], raw: Path, tmp_path: Path) -> None:
    found = dedup(raw, out=tmp_path / "out", verify=False)
    assert found.counts.dropped["near_duplicate"] > unique[1].json["counts"]["dropped"]["near_duplicate"]
    assert "false_positives" not in found.metrics
    rows = cluster_table(tmp_path / "out").values()
    assert {row["similarity"] for row in rows} == {None, 1.0}
    assert {row["similarity"] for row in rows if row["verdict"] == "near_duplicate"} == {None}
    # Whatever shares a key is one cluster, of which one stays.
    sizes = Counter(row["cluster_id"] for row in rows)
    assert Counter(row["cluster_id"] for row in rows if row["verdict"] != "survivor") == {
        name: size - 1 for name, size in sizes.items()
    }


@pytest.mark.parametrize("policy", ["first", "longest", "highest:score", "priority:books,web"])
def test_who_survives(policy: str, raw: Path, texts: dict[str, str], tmp_path: Path) -> None:
    """Of documents that are all equal, the wanted one stays; of near ones, too, and what goes is near to it."""
    documents = {row["id"]: row for row in read_jsonl(raw)}
    order = {"books": 0, "web": 1, "forum": 2}
    rank: dict[str, Callable[[Row], float]] = {
        "first": lambda row: 0,
        "longest": lambda row: -len(row["text"].encode()),
        "highest:score": lambda row: -(row["score"] or -9),
        "priority:books,web": lambda row: order[row["source"]],
    }
    dedup(raw, out=tmp_path / "out", keep=policy)
    check_survivors(tmp_path / "out", texts)
    table = cluster_table(tmp_path / "out")
    pairs = [(documents[name], documents[row["survivor"]]) for name, row in table.items() if name != row["survivor"]]
    assert len(pairs) > 300
    # A document that was too far from a better one may have a worse one of its own: never a worse one that it beats.
    assert all(rank[policy](gone) >= rank[policy](stays) for gone, stays in pairs)
    places = {name: place for place, name in enumerate(documents)}
    assert all(
        places[gone["id"]] > places[stays["id"]] for gone, stays in pairs if rank[policy](gone) == rank[policy](stays)
    )


def test_unknown_survivors(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'longest'"):
        dedup(raw, out=tmp_path / "out", keep="longst")
    for policy, wanted in (("highest:quality", "no column 'quality'"), ("highest:source", "does not hold numbers")):
        with pytest.raises(DataError, match=wanted):
            dedup(raw, out=tmp_path / "out", keep=policy)


def test_a_policy_that_fits_no_document(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "source": f"{'web' if n % 2 else 'books'}/{n}", "score": None} for n in range(6)]
    write_jsonl(tmp_path / "d.jsonl", rows)
    for policy, wanted in (
        ("priority:books,bok,code", "no document is from bok or code; sources: books, web"),
        ("highest:score", "no document has a number in column 'score'"),
    ):
        with pytest.raises(DataError, match=wanted):
            dedup(tmp_path / "d.jsonl", out=tmp_path / policy.split(":")[0], keep=policy)
    assert dedup(tmp_path / "d.jsonl", out=tmp_path / "out", keep="priority:books, web/1").counts.kept == 6
    warnings: list[str] = []
    settings = stage.Dedup(inputs=(str(tmp_path / "d.jsonl"),), out="out", keep="priority:bok,d.jsonl")
    stage.plan(settings, Context(warn=warnings.append))
    with pytest.raises(DataError):
        stage.run(settings.model_copy(update={"out": str(tmp_path / "none")}), Context(warn=warnings.append))
    assert warnings == 2 * ["no file is from bok: unless a column source names it, the command will fail"]


def test_exact_copies(tmp_path: Path) -> None:
    """Of the bytes, or of the words; the first stays."""
    write_jsonl(tmp_path / "a.jsonl", [{"id": str(n), "text": text} for n, text in enumerate(
        ["Hello, world", "hello world", "Hello, world", "world hello", "", "", "...", "HELLO-WORLD!"]
    )])  # fmt: skip
    assert dedup(tmp_path / "a.jsonl", out=tmp_path / "bytes", method="exact").counts.dropped == {"exact_duplicate": 2}
    assert [row["id"] for row in kept(tmp_path / "bytes")] == ["0", "1", "3", "4", "6", "7"]
    dedup(tmp_path / "a.jsonl", out=tmp_path / "words", method="exact", normalize_exact=True)
    assert [row["id"] for row in kept(tmp_path / "words")] == ["0", "3", "4", "6"]
    dedup(tmp_path / "a.jsonl", out=tmp_path / "both", normalize_exact=True)
    assert [row["id"] for row in kept(tmp_path / "both")] == ["0", "3", "4", "6"]
