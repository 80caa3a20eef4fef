"""dedup through the real command line, on real text: who stays and why, in which memory, killed and resumed."""

from __future__ import annotations

import io
import json
import random
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from gptctl.core.context import Context
from gptctl.core.errors import ConflictError, DataError, MachineError, UsageError
from gptctl.core.summary import Summary
from gptctl.io import manifest, stream
from gptctl.io.stream import StreamWriter
from gptctl.stages.dedup import Dedup, plan, run
from gptctl.text.dedup import finder, passes, verdicts
from gptctl.text.dedup.shingles import Shingling
from gptctl.text.dedup.verdicts import Verdicts
from tests.conftest import REPO, Ran, run_gptctl, tree_bytes, write_jsonl
from tests.stages.test_chain import shell
from tests.text.dedup import plain, redis_server

Gptctl = Callable[..., Ran]
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


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus in two files, which make several shard tasks."""
    folder = tmp_path_factory.mktemp("raw") / "raw"
    folder.mkdir()
    rows = corpus()
    write_jsonl(folder / "a.jsonl", rows[:500])
    write_jsonl(folder / "b.jsonl", rows[500:])
    return folder


@pytest.fixture(scope="module")
def texts(raw: Path) -> dict[str, str]:
    return {row["id"]: row["text"] for path in sorted(raw.iterdir()) for row in map(json.loads, path.open())}


@pytest.fixture(scope="module")
def unique(raw: Path) -> tuple[Path, Ran]:
    """The corpus without duplicates, by the command line with two workers."""
    done = run_gptctl("dedup", raw, "-o", "unique", "--workers", "2", "--json", cwd=raw.parent)
    assert done.code == 0, done.err
    return raw.parent / "unique", done


def dedup(*inputs: Path, out: Path, context: Context | None = None, **settings: Any) -> Summary:
    """Run the stage in this process."""
    return run(Dedup(inputs=tuple(map(str, inputs)), out=str(out), **{"engine": "serial"} | settings), context)


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
    bands = minhash.bands(THRESHOLD, 128)
    chance, together = [], []
    for a, b in sorted(pairs):
        share = len(sets[a] & sets[b]) / len(sets[a] | sets[b])
        if share >= THRESHOLD:
            chance.append(float(minhash.s_curve(share, *bands)))
            together.append(a in table and b in table and table[a]["cluster_id"] == table[b]["cluster_id"])
    assert len(chance) > 300
    # Chains hold together more than the pairs found one by one.
    assert sum(together) > sum(chance) - 3 * sum(c * (1 - c) for c in chance) ** 0.5


def test_the_report(unique: tuple[Path, Ran]) -> None:
    """Funnel, sizes of clusters, the largest with samples, and pairs that were none, for people and for programs."""
    out, done = unique
    metrics, table = done.json["metrics"], cluster_table(out)
    assert metrics == manifest.read(out).metrics
    sizes = Counter(Counter(row["cluster_id"] for row in table.values()).values())
    assert metrics["clusters"] == {str(size): count for size, count in sorted(sizes.items())}
    assert 0 < metrics["false_positives"] < metrics["candidates"]
    by_cluster = Counter(row["cluster_id"] for row in table.values())
    assert [size for _, size, _ in metrics["largest"]] == [size for _, size in by_cluster.most_common(5)]
    for wanted in (
        "- exact_duplicate",
        "clusters of duplicates:",
        "  3  ",
        "4 to 7",
        "largest clusters:",
        "- not near enough",
    ):
        assert wanted in done.err
    for cluster, size, sample in metrics["largest"]:
        assert f"{cluster}  " in done.err and sample in done.err and by_cluster[cluster] == size
    again = run_gptctl("dedup", out.parent / "raw", "-o", out, "--json")
    assert (again.json["status"], again.json["metrics"]) == ("up to date", metrics)
    assert "largest clusters:" in again.err


def test_any_way_gives_the_same_bytes(unique: tuple[Path, Ran], raw: Path, tmp_path: Path) -> None:
    """Workers, engines, memory, pipes; and of the survivors all survive."""
    out, _ = unique
    done = run_gptctl("dedup", raw, "-o", "one", "--workers", "1", "--memory", "1MB", cwd=tmp_path)
    assert done.code == 0, done.err
    assert tree_bytes(tmp_path / "one") == tree_bytes(out)
    dedup(raw, out=tmp_path / "serial")
    assert tree_bytes(tmp_path / "serial") == tree_bytes(out)
    script = f"""
    gptctl dedup {raw} -o - --workers 2 > first.arrows && gptctl dedup - -o second < first.arrows
    """
    piped = shell(script, tmp_path)
    assert piped.returncode == 0, piped.stderr.decode()
    left = len(kept(out))
    assert left - 2 <= len(kept(tmp_path / "second")) <= left


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


def test_memory_cuts_the_keys_into_ranges(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sorted, and what is compared, at once grows with --memory; what comes out does not."""
    sorted_keys: list[int] = []
    text_bytes: set[int] = set()
    stars, compare = passes.stars, passes.compare

    def counted(keys: Any, where: Any) -> Any:
        sorted_keys.append(len(keys))
        return stars(keys, where)

    def noted(search: Any, pairs: Any, size: int, part: Any) -> Any:
        text_bytes.add(size)
        return compare(search, pairs, size, part)

    monkeypatch.setattr(passes, "stars", counted)
    monkeypatch.setattr(passes, "compare", noted)
    most = {}
    for memory in ("1MB", "100MB"):
        sorted_keys.clear()
        text_bytes.clear()
        dedup(raw, out=tmp_path / memory, memory=memory)
        most[memory] = max(sorted_keys)
        assert sum(sorted_keys) >= 10 * 1347
        assert finder.SORTING_BYTES * max(sorted_keys) < 1.2 * int(memory[:-2]) * 10**6
        assert text_bytes == {max(2**20, int(memory[:-2]) * 10**6 // 8)}
    assert most["100MB"] == 10 * 1347 > most["1MB"]
    assert tree_bytes(tmp_path / "1MB") == tree_bytes(tmp_path / "100MB")


def test_a_cluster_of_20000(tmp_path: Path) -> None:
    """No step looks at all pairs: each document is compared with a few others. Too little memory says how much it is."""
    rng = random.Random(1)
    words = reference()[7].split()
    rows = []
    for number in range(20_000):
        changed = list(words)
        changed[rng.randrange(len(words))] = f"x{number}"
        rows.append({"id": str(number), "text": " ".join(changed)})
    write_jsonl(tmp_path / "near.jsonl", rows)
    with pytest.raises(MachineError, match="more duplicates than --memory holds") as caught:
        dedup(tmp_path / "near.jsonl", out=tmp_path / "out", memory="1MB")
    assert caught.value.exit_code == 4
    enough = (caught.value.hint or "").rpartition(" ")[2]
    found = dedup(tmp_path / "near.jsonl", out=tmp_path / "out", memory=enough)
    assert found.counts.kept < 20
    assert found.metrics["candidates"] < 10 * 20_000
    assert sum(int(size) * count for size, count in found.metrics["clusters"].items()) >= 19_990


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
    documents = {row["id"]: row for path in sorted(raw.iterdir()) for row in map(json.loads, path.open())}
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
    for policy, wanted in (("highest:quality", "no column 'quality'"), ("highest:source", "holds no numbers")):
        with pytest.raises(DataError, match=wanted):
            dedup(raw, out=tmp_path / "out", keep=policy)


def untouched(*paths: Path) -> dict[str, tuple[int, bytes]]:
    """The bytes and the times of files and of all files in folders."""
    files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*")))]
    return {str(file): (file.stat().st_mtime_ns, file.read_bytes()) for file in files if file.is_file()}


def test_against_what_was_there_before(raw: Path, texts: dict[str, str], tmp_path: Path, gptctl: Gptctl) -> None:
    """What OLD has goes from NEW as if both were deduplicated together, OLD first; OLD stays as it is."""
    rows = [json.loads(line) for path in sorted(raw.iterdir()) for line in path.open()]
    write_jsonl(tmp_path / "first.jsonl", rows[:400])
    write_jsonl(tmp_path / "second.jsonl", rows[400:700])
    write_jsonl(tmp_path / "new.jsonl", rows[700:])
    dedup(tmp_path / "first.jsonl", out=tmp_path / "old1")
    dedup(tmp_path / "second.jsonl", out=tmp_path / "old2", against=(str(tmp_path / "old1"),))
    before = untouched(tmp_path / "old1", tmp_path / "old2")
    done = gptctl("dedup", "new.jsonl", "--against", "old1,old2", "-o", "added", "--json", "--workers", "2")
    assert done.code == 0, done.err
    assert untouched(tmp_path / "old1", tmp_path / "old2") == before
    old = {row["id"] for folder in ("old1", "old2") for row in kept(tmp_path / folder)}
    added = kept(tmp_path / "added")
    dedup(tmp_path / "old1", tmp_path / "old2", tmp_path / "new.jsonl", out=tmp_path / "together")
    assert [row["text"] for row in kept(tmp_path / "together")][len(old) :] == [row["text"] for row in added]
    table = cluster_table(tmp_path / "added")
    gone = {name: row for name, row in table.items() if row["verdict"] == "in_against"}
    assert done.json["counts"]["dropped"]["in_against"] == len(gone) > 100
    assert all(row["survivor"] in old and row["similarity"] >= THRESHOLD for row in gone.values())
    assert all(
        row["similarity"] == pytest.approx(plain.jaccard(texts[name], texts[row["survivor"]], Shingling()))
        for name, row in gone.items()
        if texts[name] != texts[row["survivor"]]
    )
    assert not old & set(table) and "- in_against" in done.err
    # Files do as well as folders, in any number, and the order of OLD and NEW documents stays.
    write_jsonl(tmp_path / "old.jsonl", [row | {"text": texts[row["id"]]} for row in rows if row["id"] in old])
    dedup(tmp_path / "new.jsonl", out=tmp_path / "files", against=(str(tmp_path / "old.jsonl"),))
    assert tree_bytes(tmp_path / "files", "shards") == tree_bytes(tmp_path / "added", "shards")


def test_against_comes_before_any_policy(tmp_path: Path) -> None:
    """A longer or better document goes too where OLD has its like, also by a chain of documents that go."""
    words = [word for word in " ".join(reference()).split() if word.isalpha()]
    chain = [{"id": f"d{n}", "text": " ".join(words[8 * n : 8 * n + 150]) + " longer" * n} for n in range(3)]
    write_jsonl(tmp_path / "old.jsonl", [chain[0], {"id": "x", "text": "Too short."}])
    write_jsonl(tmp_path / "new.jsonl", [*chain[1:], {"id": "y", "text": "Too short."}, {"id": "z", "text": "Other."}])
    against = (str(tmp_path / "old.jsonl"),)
    found = dedup(tmp_path / "new.jsonl", out=tmp_path / "out", against=against, keep="longest", num_perm=256, bands=64)
    assert [row["id"] for row in kept(tmp_path / "out")] == ["d2", "z"]
    assert found.counts.dropped == {"in_against": 2}
    assert found.metrics["clusters"] == {"2": 1, "3": 1}
    assert {size: sample for _, size, sample in found.metrics["largest"]}[3].startswith(chain[1]["text"][:20])
    assert cluster_table(tmp_path / "out")["d2"]["verdict"] == "survivor"


def test_against_what_cannot_be_read(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "new.jsonl", corpus()[:20])
    write_jsonl(tmp_path / "old.jsonl", [{"body": "a column of another name"}] * 3)
    write_jsonl(tmp_path / "half.jsonl", [{"text": "of fair length"}, {"body": "a column of another name"}])
    (tmp_path / "empty.jsonl").write_text("")
    for method in ("minhash", "lines"):
        for name, wanted in (("old", "3 of 3 records"), ("half", "1 of 2 records")):
            against = (str(tmp_path / f"{name}.jsonl"),)
            with pytest.raises(DataError, match=wanted):
                dedup(tmp_path / "new.jsonl", out=tmp_path / f"{name}-{method}", against=against, method=method)
    assert dedup(tmp_path / "new.jsonl", out=tmp_path / "half", against=(str(tmp_path / "half.jsonl"),), max_bad=1)
    found = dedup(tmp_path / "new.jsonl", out=tmp_path / "none", against=(str(tmp_path / "empty.jsonl"),))
    assert "in_against" not in found.counts.dropped
    for place, wanted in (("-", "--against cannot be a pipe"), (f"{tmp_path}/nowhere", "no such file or folder")):
        with pytest.raises(UsageError, match=wanted):
            dedup(tmp_path / "new.jsonl", out=tmp_path / "out", against=(place,))


def test_the_output_lies_outside_of_what_was_there_before(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "new.jsonl", corpus()[:20])
    (tmp_path / "old").mkdir()
    write_jsonl(tmp_path / "old" / "a.jsonl", corpus()[20:30])
    with pytest.raises(UsageError, match="lies inside"):
        dedup(tmp_path / "new.jsonl", out=tmp_path / "old" / "new", against=(f"{tmp_path}/old",))
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["a.jsonl"]


def test_other_settings_inputs_and_old_documents_are_a_conflict(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "new.jsonl", corpus()[:40])
    write_jsonl(tmp_path / "old.jsonl", corpus()[40:80])
    against = (str(tmp_path / "old.jsonl"),)
    dedup(tmp_path / "new.jsonl", out=tmp_path / "out", against=against)
    assert dedup(tmp_path / "new.jsonl", out=tmp_path / "out", against=against, memory="2MB").status == "up to date"
    for changed in ({"threshold": 0.7}, {"keep": "longest"}, {"against": ()}, {"verify": False}, {"method": "exact"}):
        with pytest.raises(ConflictError):
            dedup(tmp_path / "new.jsonl", out=tmp_path / "out", **({"against": against} | changed))
    write_jsonl(tmp_path / "old.jsonl", corpus()[40:81])
    with pytest.raises(ConflictError, match=r"against old\.jsonl"):
        dedup(tmp_path / "new.jsonl", out=tmp_path / "out", against=against)
    with pytest.raises(ConflictError, match=r"new\.jsonl"):
        dedup(tmp_path / "old.jsonl", out=tmp_path / "out", against=against)


def test_what_does_not_go_together(tmp_path: Path, gptctl: Gptctl) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", corpus()[:5])
    wrong: list[tuple[Row, str]] = [
        ({"index": "datasketch", "keep": "longest"}, "--index datasketch goes with"),
        ({"index": "datasketch", "against": (str(source),)}, "--index datasketch goes with"),
        ({"index": "datasketch", "method": "exact"}, "--index datasketch goes with"),
        ({"redis": "redis://localhost"}, "redis=URL goes with --index datasketch"),
        ({"method": "lines", "keep": "longest"}, "works within them"),
    ]
    for settings, wanted in wrong:
        with pytest.raises(UsageError, match=wanted):
            dedup(source, out=tmp_path / "out", **settings)
        with pytest.raises(UsageError, match=wanted):
            plan_of(source, **settings)
    done = gptctl("dedup", "a.jsonl", "-o", "out", "--memory", "10kB")
    assert (done.code, len(done.error_lines), "too little" in done.err) == (2, 2, True)
    assert not (tmp_path / "out").exists()


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


def test_lines_and_paragraphs(tmp_path: Path, gptctl: Gptctl) -> None:
    """The first stays, wherever it stands; what went most often is shown; what has nothing left is dropped."""
    from pydoc_data.topics import topics

    menu = "Home | About us | Contact | Terms of service"
    rows = [{"id": name, "text": f"{menu}\n\n{topics[name]}"} for name in sorted(topics)]
    rows += [{"id": "again", "text": f"{menu}\n\n  {menu}  "}, {"id": "none", "text": ""}]
    write_jsonl(tmp_path / "a.jsonl", rows)
    done = gptctl("dedup", "a.jsonl", "-o", "lines", "--method", "lines", "--json")
    assert done.code == 0, done.err
    seen: Counter[str] = Counter()
    expected: dict[str, int] = {}
    for row in rows:
        lines = [line.strip() for line in row["text"].split("\n")]
        expected[row["id"]] = sum(seen[line] == 0 or len(line) < 20 for line in set(lines) if line)
        seen.update(line for line in lines if len(line) >= 20)
    left = {row["id"]: row["text"] for row in kept(tmp_path / "lines")}
    assert "again" not in left and left["none"] == ""
    assert {name: len({line.strip() for line in text.split("\n") if line.strip()}) for name, text in left.items()} == {
        name: count for name, count in expected.items() if name != "again"
    }
    metrics = done.json["metrics"]
    repeats = Counter({line: count - 1 for line, count in seen.items() if count > 1})
    assert metrics["removed"] == metrics["repeats"] == repeats.total()
    assert [times for times, _ in metrics["often"]] == [times for _, times in repeats.most_common(5)]
    assert metrics["often"][0] == [len(topics) + 1, menu]
    assert all(repeats[line] == times for times, line in metrics["often"] if len(line) < 60)
    counts = done.json["counts"]
    assert counts["dropped"] == {"only_duplicates": 1}
    assert metrics["removed_bytes"] == counts["bytes_in"] - counts["bytes_kept"]
    assert metrics["changed"] == sum(row["text"] != left.get(row["id"]) for row in rows)
    for wanted in ("lines removed", "removed most often:", menu, "documents changed"):
        assert wanted in done.err
    found = dedup(tmp_path / "a.jsonl", out=tmp_path / "paragraphs", method="paragraphs")
    assert found.metrics["often"][0] == [len(topics) + 1, menu]
    assert 80 < found.metrics["removed"] < metrics["removed"]


def test_passages(tmp_path: Path) -> None:
    """50 words or more that stand before go, a passage is counted once, its neighbours stay."""
    pieces = reference()[:21]
    licence = " ".join(f"clause{n}" for n in range(70))
    rows = [{"id": f"d{n}", "text": f"{pieces[n]}\n{licence}\n{pieces[n + 1]}"} for n in range(0, 20, 2)]
    rows.append({"id": "quote", "text": "He wrote: " + " ".join(pieces[0].split()[10:70]) + " and no more."})
    write_jsonl(tmp_path / "a.jsonl", rows)
    found = dedup(tmp_path / "a.jsonl", out=tmp_path / "out", method="substring")
    left = kept(tmp_path / "out")
    assert left[0]["text"] == rows[0]["text"]
    assert [row["text"] for row in left[1:-1]] == [f"{pieces[n]}\n{pieces[n + 1]}" for n in range(2, 20, 2)]
    assert left[-1]["text"] == "He wrote: and no more."
    assert found.metrics["often"] == [[9, licence[:60].rstrip()], [1, found.metrics["often"][1][1]]]
    assert found.metrics["removed"] == found.metrics["changed"] == 10
    dedup(tmp_path / "a.jsonl", out=tmp_path / "long", method="substring", min_words=71)
    assert all(licence in row["text"] for row in kept(tmp_path / "long")[:-1])


@pytest.mark.parametrize("method", ["lines", "substring"])
def test_within_documents_against_what_was_there_before(method: str, tmp_path: Path) -> None:
    """What OLD has goes from NEW, as if both were one input; what OLD repeats itself counts for nothing."""
    from pydoc_data.topics import topics

    rows = [{"id": name, "text": topics[name]} for name in sorted(topics)]
    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    write_jsonl(old, rows[:40] + rows[:5])
    write_jsonl(new, rows[40:] + rows[:3])
    alone = dedup(new, out=tmp_path / "alone", method=method)
    found = dedup(new, out=tmp_path / "out", method=method, against=(str(old),))
    both = dedup(old, new, out=tmp_path / "together", method=method)
    together = [row["text"] for row in kept(tmp_path / "together")]
    mine = [row["text"] for row in kept(tmp_path / "out")]
    assert mine == together[len(together) - len(mine) :]
    assert alone.metrics["removed"] < found.metrics["removed"] < both.metrics["removed"]
    assert alone.metrics["repeats"] < found.metrics["repeats"] < both.metrics["repeats"]


@pytest.mark.parametrize("method", ["exact", "lines", "paragraphs", "substring"])
def test_any_way_gives_the_same_bytes_by_any_method(method: str, raw: Path, tmp_path: Path) -> None:
    dedup(raw, out=tmp_path / "two", method=method, engine="processes", workers=2, memory="1MB")
    dedup(raw, out=tmp_path / "one", method=method)
    assert tree_bytes(tmp_path / "one") == tree_bytes(tmp_path / "two")


def test_odd_inputs(tmp_path: Path) -> None:
    """One document, equal ones, empty and null texts, nothing at all."""
    write_jsonl(tmp_path / "one.jsonl", [{"text": "one"}])
    write_jsonl(tmp_path / "equal.jsonl", [{"text": reference()[3]}] * 300)
    write_jsonl(tmp_path / "blank.jsonl", [{"text": text} for text in ("", None, "", " ", "x")])
    (tmp_path / "empty.jsonl").write_text("")
    for method in ("minhash", "exact", "lines", "substring"):
        blank = 3 if method in ("minhash", "exact") else 4
        for name, left in (("one", 1), ("equal", 1), ("blank", blank)):
            found = dedup(tmp_path / f"{name}.jsonl", out=tmp_path / f"{name}-{method}", method=method, max_bad=0.2)
            assert found.counts.kept == left, (method, name)
            assert found.counts.quarantined.total() == (name == "blank")
        with pytest.raises(DataError, match="no record"):
            dedup(tmp_path / "empty.jsonl", out=tmp_path / f"empty-{method}", method=method)
    assert len(cluster_table(tmp_path / "equal-minhash")) == 300


def test_seeds_of_any_size(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", corpus()[:50])
    for seed in (-1, 2**40):
        assert dedup(tmp_path / "a.jsonl", out=tmp_path / str(seed), seed=seed).counts.kept > 20


def test_a_limit(raw: Path, tmp_path: Path) -> None:
    """Only the first documents are looked at."""
    found = dedup(raw, out=tmp_path / "some", limit=600)
    rows = [json.loads(line) for path in sorted(raw.iterdir()) for line in path.open()][:600]
    write_jsonl(tmp_path / "some.jsonl", rows)
    dedup(tmp_path / "some.jsonl", out=tmp_path / "same")
    assert found.counts.documents_in == 600
    assert [row["id"] for row in kept(tmp_path / "some")] == [row["id"] for row in kept(tmp_path / "same")]


def test_a_damaged_shard(unique: tuple[Path, Ran], tmp_path: Path) -> None:
    """Of the input, or of what was there before."""
    shutil.copytree(unique[0], tmp_path / "bad")
    shard = tmp_path / "bad" / "shards" / "part-00001.arrow"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DataError, match=r"part-00001\.arrow"):
        dedup(tmp_path / "bad", out=tmp_path / "out")
    with pytest.raises(DataError, match=r"part-00001\.arrow"):
        dedup(unique[0], out=tmp_path / "other", against=(str(tmp_path / "bad"),))


def test_a_dry_run_foretells_the_disk(raw: Path, unique: tuple[Path, Ran], tmp_path: Path, gptctl: Gptctl) -> None:
    plan = gptctl("dedup", raw, "-o", "out", "--dry-run", "--json", "--workers", "2", "--memory", "1MB").json["plan"]
    assert (plan["bands"], plan["rows_per_band"]) == (9, 13)
    assert plan["chance_of_a_candidate"] == {f"{s}0": round(1 - (1 - s**13) ** 9, 4) for s in (0.7, 0.8, 0.9)}
    metrics = unique[1].json["metrics"]
    assert plan["documents"] == pytest.approx(1347, rel=0.1)
    assert plan["bytes_per_document_on_disk"] == pytest.approx(16 * 10 + 48 + 5, abs=1)
    # The shingles of the candidates come on top, some 1.3 bytes for each byte of their text.
    text = sum(len(row["text"].encode()) for row in corpus() if row["id"] in cluster_table(unique[0]))
    assert metrics["disk_bytes"] == pytest.approx(plan["disk_bytes"] + 1.3 * text, rel=0.3)
    assert plan["sort_ranges"] == pytest.approx(10 * 1347 * finder.SORTING_BYTES / 500_000, abs=1)
    assert not (tmp_path / "out").exists()
    for method in ("exact", "lines", "substring"):
        facts = plan_of(raw, method=method)
        found = dedup(raw, out=tmp_path / method, method=method)
        assert facts["disk_bytes"] == pytest.approx(found.metrics["disk_bytes"], rel=0.25), method
    assert plan_of(raw, index="datasketch")["index_bytes"] > 5_000_000
    assert "documents" not in plan_of(Path("-"))


def plan_of(*inputs: Path, **settings: Any) -> Row:
    found = plan(Dedup(inputs=tuple(map(str, inputs)), out="out", **settings), Context()).plan
    assert found is not None
    return found


def stream_of(*parts: list[Row]) -> bytes:
    """A pipe's bytes: documents in shards."""
    sink = io.BytesIO()
    writer = StreamWriter(sink)
    for number, rows in enumerate(parts):
        table = pa.Table.from_pylist(rows)
        writer.write(number, table.set_column(0, "text", table["text"].cast(pa.large_string())))
    writer.close()
    return sink.getvalue()


def test_survivors_are_looked_up_for_many_tasks_at_once(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each task would open nearly all others' runs: a square of the input."""
    rows = [json.loads(line) for path in sorted(raw.iterdir()) for line in path.open()]
    piped = stream_of(*(rows[first : first + 130] for first in range(0, 1300, 130)))
    monkeypatch.setattr(stream, "standard_input", lambda: io.BytesIO(piped))
    looked_up: list[int] = []
    describe = Verdicts.describe

    def counted(self: Verdicts, part: slice) -> pa.Table:
        looked_up.append(len(self.found.place[part]))
        return describe(self, part)

    monkeypatch.setattr(Verdicts, "describe", counted)
    dedup(Path("-"), out=tmp_path / "at once")
    assert looked_up == [0, len(cluster_table(tmp_path / "at once"))]
    looked_up.clear()
    monkeypatch.setattr(verdicts, "DOCUMENT_BYTES", 10_000)
    dedup(Path("-"), out=tmp_path / "in steps", memory="1MB")
    assert max(looked_up) <= 100 and 5 < len(looked_up) < 12
    assert tree_bytes(tmp_path / "in steps") == tree_bytes(tmp_path / "at once")


class CutError(Exception):
    """A run that is cut off."""


@pytest.mark.parametrize("method", ["minhash", "lines", "substring"])
def test_another_stream_into_what_was_cut_off(
    method: str, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the first stays: no runs, no shards, no tables, no results of tasks that look the same."""
    rows = [json.loads(line) for path in sorted(raw.iterdir()) for line in path.open()]
    shards = [rows[first : first + 300] for first in range(0, 1200, 300)]

    def piped(numbers: str) -> None:
        data = stream_of(*(shards[int(number)] for number in numbers))
        monkeypatch.setattr(stream, "standard_input", lambda: io.BytesIO(data))

    def cut(done: float, total: float | None, unit: str, note: str = "") -> None:
        if unit == "shards" and done == 3:
            raise CutError

    piped("0123")
    with pytest.raises(CutError):
        dedup(Path("-"), out=tmp_path / "out", method=method, context=Context(progress=cut))
    assert len(list((tmp_path / "out" / "shards").iterdir())) == 3
    piped("21")  # its second task is that of the first stream, but before it stands another
    dedup(Path("-"), out=tmp_path / "whole", method=method)
    piped("21")
    dedup(Path("-"), out=tmp_path / "out", method=method)
    assert tree_bytes(tmp_path / "out") == tree_bytes(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "workers"),
    [("", "1"), ("", "2"), *((more, "1") for more in ("--method exact", "--method lines", "--method substring")),
     ("--index datasketch", "1")],
)  # fmt: skip
def test_killed_anywhere_and_run_again(more: str, workers: str, raw: Path, tmp_path: Path) -> None:
    """At the nth file operation of any process, until a run is not killed: the same bytes, and nothing else."""
    command = ("dedup", raw, *more.split(), "--workers", workers, "-o")
    assert run_gptctl(*command, "whole", cwd=tmp_path).code == 0
    whole = tree_bytes(tmp_path / "whole")
    for operation in (*range(3, 43, 8), *range(43, 500, 20)):
        killed = run_gptctl(*command, "cut", cwd=tmp_path, GPTCTL_FAULT=f"kill:{operation}")
        if killed.code == 0:
            assert tree_bytes(tmp_path / "cut") == whole
            break
        assert killed.code == -signal.SIGKILL or (workers == "2" and killed.code == 4), killed.err
        done = run_gptctl(*command, "cut", cwd=tmp_path)
        assert done.code == 0, done.err
        assert tree_bytes(tmp_path / "cut") == whole, operation
        shutil.rmtree(tmp_path / "cut")
    assert operation > 18
    assert killed.code == 0


@pytest.mark.slow
def test_killed_again_and_again(raw: Path, unique: tuple[Path, Ran], tmp_path: Path) -> None:
    """Each time a little later, over what the runs before have left."""
    command = ("dedup", raw, "-o", "out", "--workers", "2")
    for operation in range(5, 200, 6):
        done = run_gptctl(*command, cwd=tmp_path, GPTCTL_FAULT=f"kill:{operation}")
        if done.code == 0:
            break
    assert done.code == 0
    assert tree_bytes(tmp_path / "out") == tree_bytes(unique[0])


@pytest.mark.slow
def test_a_full_disk(raw: Path, unique: tuple[Path, Ran], tmp_path: Path) -> None:
    """Is said in two lines; with space, the same command goes on."""
    for operation in range(6, 90, 20):
        command = ("dedup", raw, "-o", f"out{operation}", "--workers", "1")
        done = run_gptctl(*command, cwd=tmp_path, GPTCTL_FAULT=f"enospc:{operation}")
        assert (done.code, len(done.error_lines), "disk full" in done.err) == (4, 2, True), done.err
        assert run_gptctl(*command, cwd=tmp_path).code == 0
        assert tree_bytes(tmp_path / f"out{operation}") == tree_bytes(unique[0])


@pytest.mark.slow
def test_the_commands_of_the_documentation(tmp_path: Path) -> None:
    """Each line of docs/dedup.md works; those with Redis are planned only, as the server is elsewhere."""
    rows = corpus()
    for number, name in enumerate(("clean", "monday", "tuesday", "wednesday")):
        (tmp_path / name).mkdir()
        write_jsonl(tmp_path / name / "a.jsonl", rows[100 * number : 100 * number + 150])
    text = (REPO / "docs" / "dedup.md").read_text()
    commands = re.findall(r"^    gptctl (dedup [^#\n]+)|`gptctl (dedup [^`]+)`", text, re.MULTILINE)
    assert len(commands) > 10
    for command in (block or inline for block, inline in commands):
        words = command.split()
        out = tmp_path / words[words.index("-o") + 1]
        if words[1] == "clean":
            shutil.rmtree(out, ignore_errors=True)
        done = run_gptctl(*words, *(["--dry-run"] if "redis" in command else []), cwd=tmp_path)
        assert done.code == 0, (command, done.err)
        assert "--dry-run" in command or "redis" in command or manifest.read(out).counts.kept


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with redis_server.running() as url:
        yield url


def test_an_index_in_memory(raw: Path, texts: dict[str, str], tmp_path: Path, gptctl: Gptctl) -> None:
    """What datasketch finds goes, uncompared; the first stays; the same bytes for any workers."""
    done = gptctl("dedup", raw, "-o", "out", "--index", "datasketch", "--workers", "2", "--json")
    assert done.code == 0, done.err
    dedup(raw, out=tmp_path / "one", index="datasketch")
    assert tree_bytes(tmp_path / "one") == tree_bytes(tmp_path / "out")
    table = cluster_table(tmp_path / "out")
    places = {name: place for place, name in enumerate(texts)}
    stayed = {row["id"] for row in kept(tmp_path / "out")}
    for name, row in table.items():
        if row["verdict"] != "survivor":
            assert row["survivor"] in stayed and places[row["survivor"]] < places[name] and row["similarity"] is None
    counts, metrics = done.json["counts"], done.json["metrics"]
    assert counts["kept"] == len(stayed) == len(texts) - metrics["candidates"]
    assert "false_positives" not in metrics and "largest clusters:" in done.err
    assert len(texts) > dedup(raw, out=tmp_path / "sorted", verify=False).counts.kept > len(stayed) - 20


def test_an_index_in_redis(raw: Path, redis_url: str, tmp_path: Path, gptctl: Gptctl) -> None:
    """A later run finds what an earlier one inserted; the same run again finds its own documents, not as duplicates."""
    rows = [json.loads(line) for path in sorted(raw.iterdir()) for line in path.open()]
    days = [tmp_path / day / "part.jsonl" for day in ("monday", "tuesday")]
    for path, part in zip(days, (rows[:700], [*rows[:200], *rows[700:]]), strict=True):
        path.parent.mkdir()
        write_jsonl(path, part)
    command = ("--index", "datasketch", "--set", f"redis={redis_url}", "--set", "redis_name=days")
    first = gptctl("dedup", days[0], "-o", "first", *command, "--json", "--workers", "2")
    assert first.code == 0, first.err
    dedup(days[0], out=tmp_path / "alone", index="datasketch")
    assert same_documents(tmp_path / "first", tmp_path / "alone")
    settings: Row = {"index": "datasketch", "redis": redis_url, "redis_name": "days"}
    again = dedup(days[0], out=tmp_path / "again", **settings)
    assert again.counts.to_json() == first.json["counts"]
    assert tree_bytes(tmp_path / "again") == tree_bytes(tmp_path / "first")
    second = dedup(days[1], out=tmp_path / "second", **settings)
    dropped = second.counts.dropped
    assert dropped["in_index"] > 200
    dedup(*days, out=tmp_path / "together", index="datasketch")
    together = [row["id"] for row in kept(tmp_path / "together")]
    assert together == [row["id"] for row in kept(tmp_path / "first") + kept(tmp_path / "second")]
    verdicts = [row for row in cluster_table(tmp_path / "second").values() if row["verdict"] == "in_index"]
    assert len(verdicts) == dropped["in_index"]
    assert {(row["survivor"], row["similarity"]) for row in verdicts} == {(None, None)}
    secrets = (redis_server.PASSWORD.encode(), redis_url.split("@")[0].rpartition(":")[2].encode())
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or not any(secret in path.read_bytes() for secret in secrets), path


@pytest.mark.slow
def test_an_index_in_redis_survives_a_kill(raw: Path, redis_url: str, tmp_path: Path) -> None:
    """What was inserted before the kill is no duplicate of itself."""
    dedup(raw, out=tmp_path / "whole", index="datasketch")
    for operation in (8, 20):
        command = ("dedup", raw, "-o", f"cut{operation}", "--index", "datasketch", "--workers", "1",
                   "--set", f"redis={redis_url}", "--set", f"redis_name=kill{operation}")  # fmt: skip
        killed = run_gptctl(*command, cwd=tmp_path, GPTCTL_FAULT=f"kill:{operation}")
        assert killed.code == -signal.SIGKILL
        assert run_gptctl(*command, cwd=tmp_path).code == 0
        assert same_documents(tmp_path / f"cut{operation}", tmp_path / "whole")


def test_a_redis_that_is_not_there(tmp_path: Path, gptctl: Gptctl) -> None:
    """Nobody listens, nobody answers, and what is no URL."""
    pytest.importorskip("redis")
    write_jsonl(tmp_path / "a.jsonl", corpus()[:5])
    for url, code, wanted in (
        ("redis://:hush@127.0.0.1:1/0", 4, "Redis at 127.0.0.1:1/0 failed"),
        ("http://:hush@localhost", 2, "this is no URL of a Redis server"),
    ):
        began = time.monotonic()
        done = gptctl("dedup", "a.jsonl", "-o", "out", "--index", "datasketch", "--set", f"redis={url}")
        assert (done.code, len(done.error_lines)) == (code, 2) and wanted in done.err, done.err
        assert time.monotonic() - began < 30 and "hush" not in done.err
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"hush" not in path.read_bytes(), path
